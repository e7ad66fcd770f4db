extension ClipPage {
  static let style = """
    :root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--text:#1d1d1b;--soft:#6a6a66;--line:#e2e2de;--bad:#b3261e;--wave:#3b6fb6}
    @media (prefers-color-scheme:dark){:root{--page:#161617;--card:#212123;--text:#e9e9e6;--soft:#9b9b96;--line:#343437;--bad:#ff8a80;--wave:#7fb0f0}}
    *{box-sizing:border-box}
    body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,sans-serif}
    header{display:flex;flex-wrap:wrap;gap:4px 20px;align-items:center;padding:10px 20px;background:var(--page);border-bottom:1px solid var(--line)}
    @media (min-width:700px){header{position:sticky;top:0;z-index:1}}
    h1{margin:0;font-size:17px;overflow-wrap:anywhere}
    .facts{margin:0;color:var(--soft)}
    form{display:flex;flex-wrap:wrap;gap:10px;align-items:center;margin-left:auto}
    input[type=search],select,button,.play{font:inherit;color:inherit;padding:5px 9px;border:1px solid var(--line);border-radius:7px;background:var(--card)}
    button,select,.play{cursor:pointer}
    input[type=search]{width:240px;max-width:100%}
    output{color:var(--soft);min-width:5em}
    [hidden]{display:none!important}
    .notes{margin:12px 20px 0;padding:0;list-style:none;color:var(--soft);overflow-wrap:anywhere}
    .notes li{margin:3px 0}
    .notes button{padding:0 8px;margin-right:6px}
    button[aria-pressed=true]{border-color:var(--bad);color:var(--bad);font-weight:600}
    .bad{color:var(--bad)}
    main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:16px;padding:16px 20px 40px}
    @media (max-width:480px){main{padding:12px 10px 30px}header{padding:10px}.notes{margin:10px 10px 0}}
    article{display:flex;flex-direction:column;min-width:0;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden;content-visibility:auto;contain-intrinsic-size:auto 300px}
    article.flawed{border-color:var(--bad)}
    .strip{position:relative;display:flex;gap:2px;background:#000;justify-content:center}
    .frame{position:relative;overflow:hidden;flex:1 1 0;min-width:0;max-width:calc(240px*var(--a));aspect-ratio:var(--a);padding:0;border:0;border-radius:0;background:#000;cursor:zoom-in}
    .frame:focus-visible{outline:2px solid #fff;outline-offset:-2px}
    .frame img{display:block;width:100%;height:100%}
    .frame i{position:absolute;box-shadow:0 0 0 999px #000a;outline:1px solid #fffc;outline-offset:-1px}
    .play{position:absolute;right:8px;bottom:8px;padding:3px 10px;color:#fff;background:#000b;border-color:#fff6;text-decoration:none;font-size:13px}
    .strip.none{padding:26px 12px 44px;background:var(--page);color:var(--soft);text-align:center;overflow-wrap:anywhere}
    .wave{display:block;width:100%;height:38px;border-bottom:1px solid var(--line)}
    .wave path{fill:var(--wave)}
    h2{margin:10px 14px 0;font-size:14px;overflow-wrap:anywhere}
    h2 small{margin-left:8px;font-weight:400;color:var(--soft)}
    .chips{display:flex;flex-wrap:wrap;gap:5px;margin:6px 14px 12px}
    .chips span{padding:1px 8px;border:1px solid var(--line);border-radius:9px;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
    .caption{margin:0 14px 12px;white-space:pre-line;overflow-wrap:anywhere;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:6;overflow:hidden;cursor:pointer}
    .caption.open{display:block}
    .caption.none{color:var(--bad);font-style:italic}
    .problems{margin:auto 0 0;padding:9px 14px 9px 30px;border-top:1px solid var(--line);color:var(--bad);font-size:13px;overflow-wrap:anywhere}
    dialog{width:96vw;max-width:1400px;padding:12px;border:1px solid var(--line);border-radius:10px;background:var(--card);color:var(--text)}
    dialog::backdrop{background:#000a}
    #stage{background:#000}
    #stage img,#stage video{display:block;width:100%;max-height:min(78vh,900px);object-fit:contain}
    dialog p{display:flex;gap:12px;align-items:center;margin:10px 0 0}
    #close{margin-left:auto}
    """

  static let script = """
    const all=s=>[...document.querySelectorAll(s)],get=i=>document.getElementById(i);
    const cards=all('article').map(e=>({e,t:e.textContent.toLowerCase(),b:e.dataset.bucket,p:e.classList.contains('flawed'),g:(e.dataset.groups||'').split(' ')}));
    let group='';
    function show(){const w=(get('text')?.value||'').toLowerCase().split(/\\s+/),b=get('bucket')?.value,p=get('bad')?.checked;let n=0;
    for(const c of cards){const y=w.every(x=>c.t.includes(x))&&(!b||c.b===b)&&(!p||c.p)&&(!group||c.g.includes(group));c.e.hidden=!y;n+=y}
    if(get('shown'))get('shown').textContent=n===cards.length?'':n+' shown'}
    get('filter')?.addEventListener('input',show);get('filter')?.addEventListener('submit',e=>e.preventDefault());
    const view=get('view'),stage=get('stage');let frames=[],at=0;
    function say(text,link){get('said').textContent=text;get('open').hidden=!link;if(link)get('open').href=link}
    function put(node){stage.replaceChildren(node);if(!view.open)view.showModal()}
    function enlarge(i){at=(i+frames.length)%frames.length;const m=new Image();m.src=frames[at].currentSrc||frames[at].src;say('frame '+(at+1)+' of '+frames.length+(frames.length>1?'; the arrow keys show the others':''));put(m)}
    function play(a){frames=[];const v=document.createElement('video');v.controls=v.autoplay=true;say('');v.onerror=()=>say("This browser can't play the clip, or it is no longer where it was.",a.href);v.src=a.href;put(v)}
    view.addEventListener('close',()=>stage.replaceChildren());
    view.addEventListener('click',e=>{if(e.target===view)view.close()});get('close').addEventListener('click',()=>view.close());
    document.addEventListener('keydown',e=>{const d={ArrowLeft:-1,ArrowRight:1}[e.key];if(d&&view.open&&frames.length){e.preventDefault();enlarge(at+d)}});
    document.addEventListener('click',e=>{const t=e.target,f=t.closest('.frame'),a=t.closest('a.play'),g=t.closest('[data-group]'),c=t.closest('.caption');
    if(f){frames=[...f.parentElement.querySelectorAll('img')];enlarge(frames.indexOf(f.querySelector('img')))}
    else if(a){e.preventDefault();play(a)}
    else if(g){group=group===g.dataset.group?'':g.dataset.group;for(const o of all('button[data-group]'))o.setAttribute('aria-pressed',o.dataset.group===group);show()}
    else if(c&&!getSelection().toString())c.classList.toggle('open')});
    show();
    """
}
