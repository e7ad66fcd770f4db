/// The page of the review. It is the same for every dataset: its script loads the rows, so that no
/// caption is ever part of HTML.
enum ReviewPage {
  static let script = [rowsScript, searchScript, savingScript, eventsScript]
    .joined(separator: "\n\n")

  static let html = """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Captions</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="page.css">
    </head>
    <body>
    <header>
    <h1 id="name">Captions</h1>
    <p id="facts" class="soft"></p>
    <form id="filter" role="search">
    <input id="text" type="search" placeholder="Search" aria-label="Search captions and file names">
    <select id="state" aria-label="Rows to show">
    <option value="">All rows</option>
    <option value="open">Not done</option>
    <option value="done">Done</option>
    <option value="left_out">Left out</option>
    <option value="empty">Without caption</option>
    <option value="changed">Not saved</option>
    <option value="problem">With problems</option>
    </select>
    </form>
    <div class="tools">
    <button type="button" id="open-words" aria-expanded="false" aria-controls="words">Words</button>
    <button type="button" id="open-replace" aria-expanded="false" aria-controls="replace">Replace</button>
    <button type="button" id="open-keys">Keys</button>
    </div>
    </header>
    <div id="notice" role="status" hidden><span id="notice-text"></span> <button type="button" id="notice-close">Close</button></div>
    <section id="words" class="panel" aria-label="Words in common" hidden>
    <h2>Words by the number of captions that have them</h2>
    <div id="word-list" class="chips"></div>
    <h2>Beginnings that captions share</h2>
    <div id="opening-list" class="chips"></div>
    </section>
    <form id="replace" class="panel" aria-label="Search and replace" hidden>
    <label>Find <input id="find" autocomplete="off"></label>
    <label>Replace with <input id="with" autocomplete="off"></label>
    <label class="check"><input id="case" type="checkbox"> Match case</label>
    <label class="check"><input id="whole" type="checkbox"> Whole words</label>
    <button id="replace-all" disabled>Replace</button>
    <button type="button" id="undo" disabled>Undo</button>
    <output id="found" class="soft"></output>
    </form>
    <main>
    <section id="clip" aria-label="Clip">
    <div id="stage"></div>
    <p id="place"><strong id="media"></strong> <span id="where" class="soft"></span></p>
    <p id="problem" class="bad" hidden></p>
    <textarea id="caption" aria-label="Caption" spellcheck="true" rows="8" disabled></textarea>
    <p class="row soft"><span id="length"></span> <button type="button" id="revert" hidden>Revert</button></p>
    <div class="actions">
    <button type="button" id="previous" aria-label="Previous clip">&#8593;</button>
    <button type="button" id="next" aria-label="Next clip">&#8595;</button>
    <button type="button" id="done" aria-pressed="false">Done</button>
    <button type="button" id="leave" aria-pressed="false">Leave out</button>
    <button type="button" id="save" class="main" disabled>Save</button>
    </div>
    </section>
    <nav id="list" aria-label="Rows"></nav>
    </main>
    <dialog id="ask" aria-labelledby="ask-title">
    <h2 id="ask-title">The captions were changed by another program</h2>
    <p id="ask-text"></p>
    <p class="row"><button type="button" id="keep" class="main">Keep my changes</button>
    <button type="button" id="drop">Drop my changes</button>
    <button type="button" id="wait" autofocus>Not now</button></p>
    </dialog>
    <dialog id="keys" aria-labelledby="keys-title">
    <h2 id="keys-title">Keys</h2>
    <table>
    <tr><td><kbd>&#8593;</kbd> <kbd>&#8595;</kbd> or <kbd>k</kbd> <kbd>j</kbd></td><td>previous or next clip; with <kbd>Alt</kbd> also while typing</td></tr>
    <tr><td><kbd>Enter</kbd>, <kbd>Esc</kbd></td><td>edit the caption, leave it</td></tr>
    <tr><td><kbd>Space</kbd></td><td>play or pause</td></tr>
    <tr><td><kbd>&#8592;</kbd> <kbd>&#8594;</kbd></td><td>one second back or forward</td></tr>
    <tr><td><kbd>d</kbd></td><td>done</td></tr>
    <tr><td><kbd>x</kbd></td><td>leave out of training</td></tr>
    <tr><td><kbd>Ctrl</kbd>+<kbd>Enter</kbd></td><td>done, save, and next clip</td></tr>
    <tr><td><kbd>Ctrl</kbd>+<kbd>S</kbd></td><td>save</td></tr>
    <tr><td><kbd>/</kbd>, <kbd>r</kbd>, <kbd>w</kbd></td><td>search, replace, words</td></tr>
    <tr><td><kbd>?</kbd></td><td>this list</td></tr>
    </table>
    <form method="dialog"><button>Close</button></form>
    </dialog>
    <script src="page.js" defer></script>
    </body>
    </html>

    """
}
