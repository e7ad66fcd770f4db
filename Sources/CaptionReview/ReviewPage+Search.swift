extension ReviewPage {
  /// The filter, search and replace, and the words that captions share.
  static let searchScript = #"""
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
    """#
}
