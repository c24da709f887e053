"""The report's looks.

Colours are distinguishable for colour-blind readers (after Okabe and Ito), and have a contrast of
at least 3 to 1 for shapes and 4.5 to 1 for text, by day and by night.
"""

from __future__ import annotations

LIGHT = (
    "--paper:#fff;--panel:#f6f7f9;--ink:#1b1f24;--soft:#57606a;--rule:#d8dee4;--grid:#e4e8ec;"
    "--bar:#2b6cb0;--quiet:#848d97;--alarm:#b3261e;--better:#dbeafe;--worse:#fde6cf;"
    "--h0:#5b6570;--h1:#0072b2;--h2:#c44e00;--h3:#00805e;--h4:#a8478a;--h5:#8a6d00;--h6:#3f3fbf;"
)
DARK = (
    "--paper:#0f1419;--panel:#171d24;--ink:#e6edf3;--soft:#9aa7b4;--rule:#303a45;--grid:#26303a;"
    "--bar:#5aa2e6;--quiet:#7d8996;--alarm:#ff8a80;--better:#16345a;--worse:#4a2f14;"
    "--h0:#b3bec9;--h1:#56b4e9;--h2:#ff9a4d;--h3:#2fd0a2;--h4:#e59ac9;--h5:#e8c547;--h6:#a9a5ff;"
)
CHART = """
.chart{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.chart text{font-size:12px;fill:var(--ink)}
.chart .tick,.chart .axis-title{font-size:11px;fill:var(--soft)}
.chart .heading{font-size:11px;font-weight:600;fill:var(--soft);letter-spacing:.02em}
.chart .name,.chart .value,.chart .heading{paint-order:stroke;stroke:var(--paper);stroke-width:3}
.chart .value{text-anchor:end;font-variant-numeric:tabular-nums}
.chart .alarm{fill:var(--alarm);font-weight:600}
.chart .sheet{fill:var(--paper)}
.chart .grid{stroke:var(--grid)}
.chart .ground{stroke:var(--rule)}
.chart .reference{stroke:var(--soft);stroke-dasharray:4 3}
.chart .bar{fill:var(--bar)}
.chart .bar.quiet{fill:var(--quiet)}
.chart .round{fill:var(--paper);stroke:var(--ink);stroke-width:.8}
.chart .whisker{stroke:var(--ink);stroke-width:1.4}
.chart .dot{fill:var(--bar);stroke:var(--paper)}
.chart .dot.quiet{fill:var(--quiet)}
.chart .dot.hollow{fill:var(--paper);stroke:var(--ink);stroke-width:1.4}
.chart .hill{fill:var(--bar);fill-opacity:.45;stroke:var(--bar)}
.chart .hill.quiet{fill:var(--quiet);stroke:var(--quiet)}
.chart .p50{stroke:var(--ink);stroke-width:2}
.chart .p95{stroke:var(--ink)}
.chart .p99{stroke:var(--ink);stroke-dasharray:2 2}
.chart .mark{fill:var(--ink)}
.chart .line{fill:none;stroke-width:1.8;stroke:var(--hue)}
.chart .point{fill:var(--hue);stroke:var(--paper);stroke-width:.8}
.chart .band{fill:var(--hue);fill-opacity:.16}
.chart .ring{fill:none;stroke:var(--hue);stroke-width:2}
""" + "".join(f".chart .hue{n}{{--hue:var(--h{n})}}" for n in range(7))
COLOURS = (
    f":root{{color-scheme:light dark;{LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    f"@media print{{:root{{color-scheme:light;{LIGHT}}}}}"
)
PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);overflow-wrap:break-word;
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1320px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.5rem;margin:56px 0 4px;padding-top:20px;border-top:2px solid var(--ink)}
h3{font-size:1.2rem;margin:40px 0 2px}
h4{font-size:1rem;margin:28px 0 4px}
p{margin:4px 0 10px;max-width:75ch}
a{color:var(--bar)}
.soft{color:var(--soft)}
.said{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 40px;
 margin-bottom:10px}
.say{margin:0 0 8px;padding-left:18px;font-size:.9375rem}
.say li{margin-bottom:3px}
.label{font-weight:600;color:var(--soft);font-size:.875rem;margin:6px 0 2px}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:16px}
.figures>*{min-width:0}
figure{margin:0;padding:14px 14px 10px;background:var(--panel);border-radius:8px;max-width:620px}
figcaption{font-size:.875rem;line-height:1.4;margin-bottom:8px}
figcaption b{display:block;font-size:.95rem}
figure .chart{display:block;width:100%;height:auto;max-width:520px}
figure>p{font-size:.875rem;line-height:1.4;margin:8px 0 6px}
details{margin-top:8px;font-size:.875rem}
summary{cursor:pointer;color:var(--soft);padding:4px 0}
summary:focus-visible,.scroll:focus-visible,a:focus-visible{outline:2px solid var(--bar);
 outline-offset:2px}
.scroll{overflow-x:auto;max-width:100%;margin-top:10px}
table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums}
th:first-child{position:sticky;left:0;background:var(--paper)}
figure{--paper:var(--panel)}
caption{text-align:left;position:sticky;left:0;width:max-content;max-width:85vw;color:var(--soft);padding-bottom:4px}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600}
th:first-child,td:first-child,.words td,.words th{text-align:left}
thead th{border-bottom-color:var(--soft);vertical-align:bottom}
td small{display:block;color:var(--soft);white-space:nowrap}
.better{background:var(--better)}
.worse{background:var(--worse)}
.alarm{color:var(--alarm);font-weight:600}
.warn{border-left:4px solid var(--alarm);padding:8px 14px;background:var(--panel);margin:14px 0}
.warn ul,.plain{margin:4px 0;padding-left:18px}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0;margin:4px 0}
dl{display:grid;grid-template-columns:minmax(8em,max-content) 1fr;gap:4px 18px;margin:8px 0}
dt{color:var(--soft)}
dd{margin:0;min-width:0}
main footer{margin:56px 0 40px;padding:0;max-width:none}
@media (max-width:720px){
 main,header,footer{padding-left:14px;padding-right:14px}
 figure{padding:12px 10px 8px}
 th:first-child{max-width:9.5rem}
 dl{grid-template-columns:1fr}
 dd{margin-bottom:8px}
}
@media print{
 nav,summary{display:none}
 figure,.say li,tr{break-inside:avoid}
 h2,h3,h4{break-after:avoid}
 body{font-size:11pt}
 .figures{grid-template-columns:1fr 1fr}
 *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""
ALONE = f"svg{{{LIGHT}}}@media (prefers-color-scheme:dark){{svg{{{DARK}}}}}{CHART}"
