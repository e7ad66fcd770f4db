extension ReviewPage {
  /// Loading, saving, and questions about changes by other programs.
  static let savingScript = #"""
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
        // Text that was typed since then stays.
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
    """#
}
