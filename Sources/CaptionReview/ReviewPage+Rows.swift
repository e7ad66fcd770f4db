extension ReviewPage {
  /// The rows, the selected one, and its player.
  static let rowsScript = #"""
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
    """#
}
