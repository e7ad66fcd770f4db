extension ReviewPage {
  static let style = """
    :root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--text:#1d1d1b;--soft:#6a6a66;--line:#e2e2de;--bad:#b3261e;--good:#1e7a3c;--accent:#2f5f9e}
    @media (prefers-color-scheme:dark){:root{--page:#161617;--card:#212123;--text:#e9e9e6;--soft:#9b9b96;--line:#343437;--bad:#ff8a80;--good:#7fd19a;--accent:#7fb0f0}}
    *{box-sizing:border-box}
    [hidden]{display:none!important}
    body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
    header{display:flex;flex-wrap:wrap;gap:6px 16px;align-items:center;padding:10px 20px;border-bottom:1px solid var(--line)}
    h1{margin:0;font-size:17px}
    h2{margin:0 0 6px;font-size:14px}
    p{margin:0}
    .soft{color:var(--soft)}
    .bad{color:var(--bad)}
    #facts{margin-right:auto}
    form,.tools,.row{display:flex;flex-wrap:wrap;gap:8px;align-items:center}
    input:not([type=checkbox]),select,button,textarea{font:inherit;color:inherit;padding:6px 10px;border:1px solid var(--line);border-radius:7px;background:var(--card);max-width:100%}
    button,select{cursor:pointer}
    button:disabled{color:var(--soft);cursor:default}
    button.main:enabled{background:var(--accent);border-color:var(--accent);color:var(--page)}
    button[aria-pressed=true],button[aria-expanded=true]{border-color:var(--accent);color:var(--accent);font-weight:600}
    :focus-visible{outline:2px solid var(--accent);outline-offset:1px}
    #notice{display:flex;gap:12px;align-items:center;padding:8px 20px;background:var(--card);border-bottom:1px solid var(--line)}
    #notice-text{margin-right:auto;white-space:pre-line}
    .panel{padding:12px 20px;background:var(--card);border-bottom:1px solid var(--line)}
    #words h2:not(:first-child){margin-top:10px}
    .chips{display:flex;flex-wrap:wrap;gap:5px;max-height:26vh;overflow:auto}
    .chips button{padding:1px 9px;border-radius:9px;font-size:13px;text-align:left}
    .chips small{color:var(--soft);margin-left:5px;font-variant-numeric:tabular-nums}
    label{display:inline-flex;gap:6px;align-items:center;max-width:100%}
    label input{min-width:0}
    main{display:grid;grid-template-columns:minmax(0,1fr) minmax(280px,420px);gap:16px;padding:16px 20px}
    #clip{display:flex;flex-direction:column;gap:8px;min-width:0;position:sticky;top:12px;align-self:start}
    #stage{display:flex;flex-direction:column;align-items:center;justify-content:center;gap:8px;min-height:120px;background:#000;border-radius:10px;overflow:hidden;color:#ccc}
    #stage video,#stage img{display:block;max-width:100%;max-height:min(52vh,620px)}
    #stage video{width:100%}
    #stage audio{width:100%}
    #stage p{padding:20px;text-align:center}
    #stage a{color:#9cf}
    textarea{width:100%;resize:vertical;line-height:1.5}
    .actions{display:flex;flex-wrap:wrap;gap:8px}
    #done[aria-pressed=true]{border-color:var(--good);color:var(--good)}
    #leave[aria-pressed=true]{border-color:var(--bad);color:var(--bad)}
    #list{display:flex;flex-direction:column;gap:4px;min-width:0;max-height:calc(100vh - 90px);overflow:auto;position:sticky;top:12px;align-self:start}
    #list button{flex:none;display:block;width:100%;text-align:left;padding:6px 10px 6px 26px;position:relative;content-visibility:auto;contain-intrinsic-size:auto 62px}
    #list button::before{content:"";position:absolute;left:9px;top:12px;width:8px;height:8px;border-radius:50%;border:1px solid var(--soft)}
    #list button.done::before{background:var(--good);border-color:var(--good)}
    #list button.left_out::before{background:var(--bad);border-color:var(--bad)}
    #list button.left_out{opacity:.65}
    #list button.changed strong::after{content:" \\2022 not saved";color:var(--accent);font-weight:400}
    #list button.problem strong{color:var(--bad)}
    #list button[aria-current]{border-color:var(--accent);box-shadow:inset 0 0 0 1px var(--accent)}
    #list strong{display:block;font-weight:600;font-size:13px}
    #list span{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;overflow:hidden;color:var(--soft);font-size:13px}
    dialog{max-width:min(94vw,620px);padding:18px;border:1px solid var(--line);border-radius:10px;background:var(--card);color:var(--text)}
    dialog::backdrop{background:#0008}
    dialog .row,dialog form{margin-top:14px}
    #ask-text{white-space:pre-line}
    td{padding:3px 14px 3px 0;vertical-align:top}
    kbd{padding:0 5px;border:1px solid var(--line);border-radius:4px;font:12px ui-monospace,monospace}
    @media (max-width:760px){
    header{padding:10px}
    #facts{flex-basis:100%}
    #filter{flex:1 1 100%}
    #text{flex:1 1 120px;min-width:0}
    input:not([type=checkbox]),select,textarea{font-size:16px}
    button{min-height:40px}
    .chips button{min-height:32px}
    #notice,.panel{padding:10px}
    main{display:flex;flex-direction:column;padding:10px 10px 76px}
    #clip,#list{position:static;align-self:stretch;max-height:none}
    .actions{position:fixed;left:0;right:0;bottom:0;z-index:1;flex-wrap:nowrap;padding:8px 10px;background:var(--page);border-top:1px solid var(--line)}
    .actions button{flex:1 1 0;min-width:0;padding:6px 4px}
    }
    """
}
