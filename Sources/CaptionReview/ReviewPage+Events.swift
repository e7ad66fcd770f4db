extension ReviewPage {
  /// The events of the page, and its keys. Runs last, and loads the rows.
  static let eventsScript = #"""
    // Events.

    get('caption').addEventListener('input', () => {
      if (!current) return;
      current.caption = get('caption').value;
      edited(current);
    });
    get('revert').addEventListener('click', () => {
      current.caption = current.saved.shown;
      edited(current);
    });
    get('previous').addEventListener('click', () => step(-1));
    get('next').addEventListener('click', () => step(1));
    get('done').addEventListener('click', () => toggle('done'));
    get('leave').addEventListener('click', () => toggle('left_out'));
    get('save').addEventListener('click', save);
    get('notice-close').addEventListener('click', () => say(''));
    get('filter').addEventListener('submit', event => event.preventDefault());
    get('filter').addEventListener('input', filterAndShow);
    get('replace').addEventListener('submit', event => { event.preventDefault(); replaceAll(); });
    get('replace').addEventListener('input', showFound);
    get('undo').addEventListener('click', undoReplacement);
    get('open-words').addEventListener('click', () => togglePanel('words'));
    get('open-replace').addEventListener('click', () => togglePanel('replace', get('find')));
    get('open-keys').addEventListener('click', () => get('keys').showModal());
    get('words').addEventListener('click', event => {
      const chip = event.target.closest('button');
      if (chip) toggleWord(chip.dataset.text);
    });
    get('keep').addEventListener('click', () => resolve(true));
    get('drop').addEventListener('click', () => resolve(false));
    get('ask').addEventListener('close', () => { if (conflict) declined = conflict.version; });
    get('wait').addEventListener('click', () => get('ask').close());
    window.addEventListener('focus', look);
    document.addEventListener('visibilitychange', look);
    setInterval(look, 30000);
    window.addEventListener('beforeunload', event => { if (changes().length) event.preventDefault(); });

    async function doneAndNext() {
      if (current && keepsMarks && current.mark !== 'done') toggle('done');
      step(1);
      await save();
    }

    // Whether Enter and the space bar belong to an element. The selected row has no use for them.
    function isControl(element) {
      const control = element.closest('button,video,audio,a');
      return Boolean(control) && !(current && control === current.item);
    }

    const keys = {
      ArrowUp: () => step(-1), k: () => step(-1), ArrowDown: () => step(1), j: () => step(1),
      Enter: () => get('caption').focus(), e: () => get('caption').focus(),
      ' ': () => control(media => media.paused ? media.play().catch(() => {}) : media.pause()),
      ArrowLeft: () => control(media => { media.currentTime = Math.max(0, media.currentTime - 1); }),
      ArrowRight: () => control(media => { media.currentTime += 1; }),
      d: () => toggle('done'), x: () => toggle('left_out'),
      '/': () => get('text').focus(), r: () => togglePanel('replace', get('find')),
      w: () => togglePanel('words'), '?': () => get('keys').showModal(),
    };

    document.addEventListener('keydown', event => {
      if (document.querySelector('dialog[open]') || event.isComposing) return;
      const isCommand = event.ctrlKey || event.metaKey;
      let act = null;
      if (isCommand && event.key.toLowerCase() === 's' && !event.shiftKey) act = save;
      else if (isCommand && event.key === 'Enter') act = doneAndNext;
      else if (event.altKey && !isCommand && ['ArrowUp', 'ArrowDown'].includes(event.key)) act = keys[event.key];
      else if (isCommand || event.altKey) return;
      else if (event.target.closest('input,textarea,select')) {
        if (event.key !== 'Escape') return;
        act = () => event.target.blur();
      } else if (['Enter', ' '].includes(event.key) && isControl(event.target)) return;
      else if (event.target.closest('video,audio') && event.key.startsWith('Arrow')) return;
      else act = keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });

    load(false).catch(error => say(error instanceof TypeError ? unreachable : error.message));
    """#
}
