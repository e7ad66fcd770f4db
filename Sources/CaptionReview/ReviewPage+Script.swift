extension ReviewPage {
  static let script = #"""
    'use strict';
    const get = id => document.getElementById(id);
    // A text area has only line feeds, so a caption counts as changed by what it shows.
    const shown = text => text.replace(/\r\n?/g, '\n');
    let rows = [], version = '', keepsMarks = true, current = null, visible = [], undo = null;
    let isSaving = false, conflict = null, declined = '';

    // Rows. A row has what the file has (saved) and what the page has (caption, mark).

    const captionChanged = row => row.caption !== row.saved.shown;
    const markChanged = row => row.mark !== row.saved.mark;
    const hasChanged = row => captionChanged(row) || markChanged(row);
    const changes = () => rows.filter(hasChanged);

    const inFile = ({caption, mark}) => ({caption, shown: shown(caption), mark});

    function makeRow(given, index) {
      const row = {index, media: given.media, kind: given.kind, audio: given.audio, line: given.line,
        problem: given.problem, saved: inFile(given), mark: given.mark,
        item: document.createElement('button')};
      row.caption = row.saved.shown;
      row.item.type = 'button';
      row.item.append(document.createElement('strong'), document.createElement('span'));
      row.item.firstChild.textContent = row.media || 'line ' + row.line;
      row.item.addEventListener('click', () => select(row));
      return row;
    }

    function adopt(listing) {
      version = listing.version;
      declined = '';
      rows = listing.rows.map(makeRow);
      undo = null;
      get('undo').disabled = true;
      get('list').replaceChildren(...rows.map(row => row.item));
      rows.forEach(showItem);
      if (listing.notes.length) say(listing.notes.join('\n'));
    }

    // In another listing of the same dataset, a row is recognized by its media file. Several rows of
    // one file are recognized only while there are as many.
    function identities(list) {
      const totals = new Map(), counts = new Map(), found = new Map();
      for (const {media} of list) totals.set(media, (totals.get(media) || 0) + 1);
      for (const row of list) {
        const count = (counts.get(row.media) || 0) + 1;
        counts.set(row.media, count);
        found.set(JSON.stringify([row.media, count, totals.get(row.media)]), row);
      }
      return found;
    }

    // Takes a new listing over. Changes of this page stay, if they are to be kept.
    function update(listing, keeps) {
      const before = identities(rows), selected = current;
      adopt(listing);
      let lost = 0, place = null;
      const after = identities(rows);
      for (const [identity, old] of before) {
        const row = after.get(identity);
        if (old === selected) place = row;
        if (!keeps || !hasChanged(old)) continue;
        if (!row) { lost += 1; continue; }
        if (captionChanged(old)) row.caption = old.caption;
        if (markChanged(old)) row.mark = old.mark;
        showItem(row);
      }
      current = null;
      filter();
      select(place || visible[0] || rows[0] || null);
      showWords();
      return lost;
    }

    function showItem(row) {
      row.item.className = [row.mark, hasChanged(row) && 'changed', row.problem && 'problem']
        .filter(Boolean).join(' ');
      const text = row.caption.slice(0, 200) || 'no caption';
      if (row.item.lastChild.textContent !== text) row.item.lastChild.textContent = text;
    }

    function showCounts() {
      const done = rows.filter(row => row.mark === 'done').length;
      const out = rows.filter(row => row.mark === 'left_out').length;
      const count = changes().length;
      get('facts').textContent = rows.length + (rows.length === 1 ? ' row' : ' rows')
        + (done ? ', ' + done + ' done' : '') + (out ? ', ' + out + ' left out' : '')
        + (visible.length < rows.length ? ', ' + visible.length + ' shown' : '');
      get('save').disabled = !count || isSaving;
      get('save').textContent = count ? 'Save ' + count : 'Save';
    }

    function say(text) {
      get('notice-text').textContent = text;
      get('notice').hidden = !text;
    }

    // The selected row.

    function select(row) {
      if (row === current && row) return showRow();
      if (current) current.item.removeAttribute('aria-current');
      current = row;
      play(row);
      get('caption').disabled = !row;
      if (row) {
        row.item.setAttribute('aria-current', 'true');
        row.item.scrollIntoView({block: 'nearest'});
      }
      showRow();
    }

    function showRow() {
      const row = current;
      get('media').textContent = row ? row.media : 'No row to show';
      get('where').textContent = row && row.line ? 'line ' + row.line : '';
      get('problem').textContent = row && row.problem || '';
      get('problem').hidden = !(row && row.problem);
      if (get('caption').value !== (row ? row.caption : '')) {
        get('caption').value = row ? row.caption : '';
      }
      for (const [id, mark] of [['done', 'done'], ['leave', 'left_out']]) {
        get(id).setAttribute('aria-pressed', String(Boolean(row) && row.mark === mark));
        get(id).disabled = !row || !keepsMarks;
      }
      get('revert').hidden = !row || !captionChanged(row);
      const words = row ? row.caption.split(/\s+/).filter(Boolean).length : 0;
      get('length').textContent = row
        ? words + (words === 1 ? ' word, ' : ' words, ') + [...row.caption].length + ' characters' : '';
      const place = visible.indexOf(row);
      get('previous').disabled = !visible.length || place === 0;
      get('next').disabled = !visible.length || place === visible.length - 1;
      showCounts();
    }

    function edited(row) {
      showItem(row);
      if (row === current) showRow(); else showCounts();
      showFound();
      showWords();
    }

    function step(by) {
      if (!visible.length) return;
      const place = visible.indexOf(current);
      // A row that the filter no longer shows keeps its place among the others.
      const target = place >= 0 ? place + by
        : by > 0 ? visible.findIndex(row => row.index > (current ? current.index : -1))
        : visible.findLastIndex(row => row.index < (current ? current.index : Infinity));
      if (visible[target]) select(visible[target]);
    }

    function toggle(mark) {
      if (!current || !keepsMarks) return;
      current.mark = current.mark === mark ? '' : mark;
      edited(current);
    }

    // The player.

    const address = file => 'media?file=' + encodeURIComponent(file);

    function player(kind, file) {
      const player = document.createElement(kind === 'image' ? 'img' : kind);
      if (kind === 'image') player.alt = file;
      else Object.assign(player, {controls: true, loop: kind === 'video', playsInline: true});
      player.addEventListener('error', () => {
        const text = document.createElement('p'), link = document.createElement('a');
        link.href = address(file);
        link.download = '';
        link.textContent = 'Download it';
        text.append("This browser can't show the file. ", link);
        player.replaceWith(text);
      });
      player.src = address(file);
      return player;
    }

    function play(row) {
      // A player that is only dropped keeps its connection, and browsers open few of them.
      for (const old of get('stage').querySelectorAll('video,audio')) {
        old.pause();
        old.removeAttribute('src');
        old.load();
      }
      get('stage').replaceChildren();
      if (!row || row.problem) return;
      const main = player(row.kind, row.media);
      get('stage').append(main);
      if (row.audio) get('stage').append(player('audio', row.audio));
      // Browsers refuse to play before the first click or key.
      if (row.kind !== 'image') main.play().catch(() => {});
    }

    function control(act) {
      const media = get('stage').querySelector('video,audio');
      if (media) act(media);
      return Boolean(media);
    }

    // The filter.

    const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const wholeWord = text => '(?<![\\p{L}\\p{N}])' + escaped(text) + '(?![\\p{L}\\p{N}])';

    // Words that must all occur; those in double quotes as whole words.
    function tests() {
      const parts = get('text').value.match(/"[^"]+"|\S+/g) || [];
      return parts.map(part => {
        const isQuoted = part.length > 2 && part.startsWith('"') && part.endsWith('"');
        const pattern = isQuoted ? wholeWord(part.slice(1, -1)) : escaped(part);
        return new RegExp(pattern, 'iu');
      });
    }

    function filter() {
      const wanted = tests(), state = get('state').value;
      visible = rows.filter(row => {
        const isWanted = state === 'open' ? row.mark === '' : state === 'empty' ? !row.caption.trim()
          : state === 'changed' ? hasChanged(row) : state === 'problem' ? row.problem
          : !state || row.mark === state;
        const isShown = Boolean(isWanted)
          && wanted.every(test => test.test(row.caption) || test.test(row.media));
        row.item.hidden = !isShown;
        return isShown;
      });
      showFound();
    }

    function filterAndShow() {
      filter();
      if (current && !visible.includes(current) && visible.length) select(visible[0]);
      showRow();
    }

    // Search and replace, in the rows that are shown.

    function searched() {
      const text = get('find').value;
      if (!text) return null;
      return new RegExp(get('whole').checked ? wholeWord(text) : escaped(text),
        get('case').checked ? 'gu' : 'giu');
    }

    function matches() {
      const search = searched();
      const found = [];
      if (search) {
        for (const row of visible) {
          const count = (row.caption.match(search) || []).length;
          if (count) found.push({row, count});
        }
      }
      return found;
    }

    function showFound() {
      if (get('replace').hidden) return;
      const found = matches(), places = found.reduce((sum, match) => sum + match.count, 0);
      get('replace-all').disabled = !places;
      get('found').textContent = !get('find').value ? ''
        : places + (places === 1 ? ' place in ' : ' places in ') + found.length + ' of '
          + visible.length + ' shown captions';
    }

    function replaceAll() {
      const search = searched(), text = get('with').value;
      const found = matches();
      undo = found.map(({row}) => ({row, caption: row.caption}));
      for (const {row} of found) {
        row.caption = row.caption.replace(search, () => text);
        showItem(row);
      }
      get('undo').disabled = !undo.length;
      showRow();
      showFound();
      showWords();
      get('found').textContent = 'Replaced in ' + found.length
        + (found.length === 1 ? ' caption.' : ' captions.');
    }

    function undoReplacement() {
      for (const {row, caption} of undo || []) {
        row.caption = caption;
        showItem(row);
      }
      undo = null;
      get('undo').disabled = true;
      showRow();
      showFound();
      showWords();
    }

    // Words in common.

    const common = new Set(('a an and are as at be by for from has have he her his in into is it its of '
      + 'on or she that the their them then there they this to was were which while who with').split(' '));
    const segmenter = window.Intl && Intl.Segmenter ? new Intl.Segmenter([], {granularity: 'word'}) : null;

    function wordsOf(text) {
      const lower = text.toLowerCase();
      return segmenter
        ? [...segmenter.segment(lower)].filter(part => part.isWordLike).map(part => part.segment)
        : lower.match(/[\p{L}\p{N}]+(?:['’][\p{L}]+)*/gu) || [];
    }

    function uniqueWords(row) {
      if (row.counted !== row.caption) {
        row.counted = row.caption;
        row.words = new Set(wordsOf(row.caption).filter(word => !common.has(word)));
      }
      return row.words;
    }

    let wordTimer = 0;
    function showWords() {
      if (get('words').hidden) return;
      clearTimeout(wordTimer);
      wordTimer = setTimeout(countWords, 200);
    }

    function countWords() {
      const used = rows.filter(row => row.mark !== 'left_out' && row.caption.trim());
      const words = new Map(), openings = new Map();
      const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
      for (const row of used) {
        for (const word of uniqueWords(row)) add(words, word);
        const start = row.caption.trim().split(/\s+/).slice(0, 3).join(' ');
        if (start.includes(' ')) add(openings, start);
      }
      const list = (id, map, limit, none) => {
        const top = [...map].filter(entry => entry[1] > 1).sort((a, b) => b[1] - a[1]).slice(0, limit);
        get(id).replaceChildren(...top.map(([text, count]) => {
          const chip = document.createElement('button'), share = document.createElement('small');
          chip.type = 'button';
          chip.dataset.text = text;
          share.textContent = count + ' of ' + used.length;
          chip.append(text, share);
          return chip;
        }));
        if (!top.length) get(id).textContent = none;
      };
      list('word-list', words, 60, 'No word is in two captions.');
      list('opening-list', openings, 12, 'No two captions begin with the same three words.');
    }

    function toggleWord(text) {
      const quoted = '"' + text.replaceAll('"', ' ') + '"';
      get('text').value = get('text').value === quoted ? '' : quoted;
      filterAndShow();
    }

    function togglePanel(id, focus) {
      const panel = get(id);
      panel.hidden = !panel.hidden;
      get('open-' + id).setAttribute('aria-expanded', String(!panel.hidden));
      if (panel.hidden) return;
      if (id === 'words') countWords(); else showFound();
      if (focus) focus.focus();
    }

    // Loading and saving.

    async function problemOf(response) {
      return (await response.text()).trim() || 'The answer has status ' + response.status + '.';
    }

    const unreachable = 'ltx does not answer. If it has ended, copy what you still need from this page.';

    async function load(keeps) {
      const response = await fetch('rows');
      if (!response.ok) throw new Error(await problemOf(response));
      const listing = await response.json();
      keepsMarks = listing.keepsMarks;
      get('name').textContent = listing.path.split('/').filter(Boolean).pop() || listing.path;
      get('name').title = listing.path;
      document.title = 'Captions of ' + get('name').textContent;
      return update(listing, keeps);
    }

    async function save() {
      const list = changes();
      if (!list.length || isSaving) return;
      isSaving = true;
      showCounts();
      const edits = list.map(row => {
        const edit = {row: row.index, media: row.media};
        if (captionChanged(row)) edit.caption = row.caption;
        if (markChanged(row)) edit.mark = row.mark;
        return edit;
      });
      try {
        const response = await fetch('save', {method: 'POST',
          headers: {'Content-Type': 'application/json'}, body: JSON.stringify({version, edits})});
        if (response.status === 409) ask(await response.json());
        else if (!response.ok) say('Not saved: ' + await problemOf(response));
        else saved(await response.json(), list, edits);
      } catch (error) {
        say('Not saved: ' + unreachable);
      }
      isSaving = false;
      showRow();
    }

    function saved(answer, list, edits) {
      version = answer.version;
      answer.rows.forEach((now, index) => {
        const row = list[index], edit = edits[index];
        // What was typed since stays.
        if (row.caption === edit.caption || !('caption' in edit) && !captionChanged(row)) {
          row.caption = shown(now.caption);
        }
        row.saved = inFile(now);
        showItem(row);
      });
      say('');
    }

    function ask(listing) {
      conflict = listing;
      const mine = changes(), theirs = identities(listing.rows.map(given => ({...given})));
      let gone = 0, both = 0;
      for (const [identity, row] of identities(rows)) {
        if (!hasChanged(row)) continue;
        const now = theirs.get(identity);
        if (!now) gone += 1;
        else if (captionChanged(row) && now.caption !== row.saved.caption) both += 1;
      }
      get('ask-text').textContent = (mine.length === 1 ? '1 row has a change'
        : mine.length + ' rows have changes') + ' that this page has not saved.'
        + (both ? '\n' + both + ' of these captions changed in the file too; yours would replace them.' : '')
        + (gone ? '\n' + gone + ' of these rows are no longer in the file; their changes would be lost.' : '');
      if (!get('ask').open) get('ask').showModal();
    }

    async function resolve(keeps) {
      const listing = conflict;
      conflict = null;
      get('ask').close();
      const lost = update(listing, keeps);
      if (keeps) await save();
      if (lost) say('Changes of ' + lost + ' rows that are no longer in the file were lost.');
    }

    // Another program may have changed the files.
    async function look() {
      if (document.hidden || isSaving || get('ask').open || !version) return;
      try {
        const response = await fetch('version');
        if (!response.ok) return say(await problemOf(response));
        const now = (await response.json()).version;
        if (now === version || now === declined || isSaving) return;
        const listing = await fetch('rows');
        if (!listing.ok) return say(await problemOf(listing));
        if (changes().length) return ask(await listing.json());
        update(await listing.json(), false);
        say('The captions were changed by another program. The page shows the new ones.');
      } catch (error) {
        say(unreachable);
      }
    }

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
