extension TrainingReport {
  package static let style = """
    :root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--text:#1d1d1b;--soft:#6a6a66;--line:#e2e2de;--bad:#b3261e;--c0:#3b6fb6;--c1:#c8641b;--c2:#2f8a57;--c3:#8a4fb0;--c4:#b8346a;--c5:#6d7a12;--c6:#17808c}
    @media (prefers-color-scheme:dark){:root{--page:#161617;--card:#212123;--text:#e9e9e6;--soft:#9b9b96;--line:#343437;--bad:#ff8a80;--c0:#7fb0f0;--c1:#f0a060;--c2:#6fcf97;--c3:#c79bea;--c4:#f08fb5;--c5:#c5d05a;--c6:#6fd0da}}
    .c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}
    *{box-sizing:border-box}
    body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,sans-serif}
    header{display:flex;flex-wrap:wrap;gap:4px 20px;align-items:baseline;padding:12px 20px;border-bottom:1px solid var(--line)}
    h1{margin:0;font-size:17px;overflow-wrap:anywhere}h2{margin:0 0 8px;font-size:15px}h3{margin:0;font-size:14px}
    header p,.none,.caption,.gone{color:var(--soft);margin:0}
    main{display:grid;grid-template-columns:minmax(0,1fr);gap:18px;padding:16px 20px 40px}
    .facts{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0}
    dt{color:var(--soft);font-size:12px}dd{margin:0;font-variant-numeric:tabular-nums}
    .charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:16px}
    .chart{position:relative;margin:0;padding:10px 12px 6px;background:var(--card);border:1px solid var(--line);border-radius:10px}
    .chart figcaption{font-weight:600}.chart small{font-weight:400;color:var(--soft)}
    .key{margin-left:12px;font-weight:400;font-size:12px;color:var(--soft);white-space:nowrap}
    .key::before{content:"";display:inline-block;width:14px;height:3px;margin-right:5px;vertical-align:middle;border-radius:2px;background:var(--c)}
    .key.raw::before{opacity:.35}td .key{margin:0;font-size:inherit;color:inherit}
    svg{display:block;width:100%;height:auto;overflow:visible}
    svg text{fill:var(--soft);font-size:11px}.value{text-anchor:end;dominant-baseline:middle}.step{text-anchor:middle}
    .grid{stroke:var(--line);fill:none}.mark{stroke:var(--bad)}.cursor{stroke:var(--soft);stroke-dasharray:3 3}
    .line{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
    .line.raw{opacity:.35;stroke-width:1}circle{fill:var(--c)}
    .tip{position:absolute;top:34px;padding:4px 8px;border:1px solid var(--line);border-radius:7px;background:var(--card);font-size:12px;pointer-events:none;white-space:pre;font-variant-numeric:tabular-nums}
    .sample{margin-bottom:16px}.caption{white-space:pre-line;overflow-wrap:anywhere;max-width:100ch}
    .row{display:flex;gap:10px;overflow-x:auto;padding:8px 0}
    .row figure{margin:0;flex:0 0 auto}.row figcaption{color:var(--soft);font-size:12px}
    .row img,.row video{display:block;height:180px;max-width:360px;object-fit:contain;background:#000;border-radius:6px}
    .shares{display:flex;height:14px;border-radius:7px;overflow:hidden;max-width:640px}.shares i{background:var(--c)}
    table{border-collapse:collapse;margin-top:8px;font-variant-numeric:tabular-nums}
    th,td{padding:2px 18px 2px 0;text-align:right;font-weight:400}th{color:var(--soft);font-size:12px}th:first-child,td:first-child{text-align:left}
    .learned p{margin:0 0 8px;max-width:100ch}.learned.bad p{border-left:3px solid var(--bad);padding-left:10px}.learned table{display:block;overflow-x:auto}.learned .charts{margin-top:12px}.learned details{margin-top:8px}
    @media (max-width:600px){svg text{font-size:16px}}
    ul{margin:0;padding-left:18px}summary{cursor:pointer;font-weight:600}
    pre{overflow:auto;padding:12px;background:var(--card);border:1px solid var(--line);border-radius:10px}
    """

  /// Shows the values under the pointer, read from the lines' own points.
  package static let script = """
    for(const f of document.querySelectorAll('.chart')){const s=f.querySelector('svg'),[x0,x1]=s.dataset.x.split(' ').map(Number),[y0,y1]=s.dataset.y.split(' ').map(Number),log='log' in s.dataset;
    const v=y=>{const u=(222-y)/210;return log?y0*Math.pow(y1/y0,u):y0+u*(y1-y0)};
    const lines=[...s.querySelectorAll('.line')].map(p=>({name:p.dataset.name,points:p.getAttribute('d').slice(1).replace('h0','').split('L').map(t=>t.split(' ').map(Number))}));
    const tip=document.createElement('div'),cursor=document.createElementNS('http://www.w3.org/2000/svg','path');tip.className='tip';tip.hidden=true;f.append(tip);cursor.setAttribute('class','cursor');
    s.addEventListener('pointermove',e=>{const r=s.getBoundingClientRect(),x=Math.max(62,Math.min(628,(e.clientX-r.left)/r.width*640));
    const near=p=>{let a=0,b=p.length-1;while(a<b){const m=a+b>>1;p[m][0]<x?a=m+1:b=m}return a&&x-p[a-1][0]<p[a][0]-x?p[a-1]:p[a]};
    tip.textContent=s.dataset.axis+' '+Math.round(x0+(x-62)/566*(x1-x0))+lines.map(l=>'\\n'+l.name+'  '+v(near(l.points)[1]).toPrecision(4)).join('');
    cursor.setAttribute('d','M'+x+' 12V222');s.append(cursor);tip.hidden=false;tip.style.left=Math.max(0,Math.min(r.width-tip.offsetWidth,(x/640)*r.width+14))+'px'});
    s.addEventListener('pointerleave',()=>{tip.hidden=true;cursor.remove()})}
    """
}
