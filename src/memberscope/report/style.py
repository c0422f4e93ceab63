"""How the page looks, on a screen and on paper."""

STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --faint: #f6f8fa; --blue: #0072B2; --red: #B3470A; --green: #00724f; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
  "Noto Sans", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.6rem 1.5rem 4rem; }
header { border-bottom: 3px solid var(--ink); padding-bottom: .8rem; margin-bottom: 1rem; }
header .kind { color: var(--soft); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase; margin: 0; }
header .made { color: var(--soft); font-size: .9rem; margin: .4rem 0 0; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .2rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p { margin: .6rem 0; max-width: 48rem; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--faint);
  padding: .08em .3em; border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--faint); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
pre code { background: none; padding: 0; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .92rem; margin: 1.2rem 0 1.5rem; }
nav a { color: var(--blue); text-decoration: none; overflow-wrap: anywhere; }
nav a:hover { text-decoration: underline; }
.finding { border: 1px solid var(--line); border-left: 6px solid var(--soft); border-radius: 6px; padding: .9rem 1.2rem; margin: 1rem 0;
  background: var(--faint); break-inside: avoid; }
.finding.leaks { border-left-color: var(--red); }
.finding.quiet { border-left-color: var(--blue); }
.finding.odd, .finding.doubt { border-left-color: #a06a00; }
.gate { border-left: 6px solid var(--line); padding: .1rem 1.2rem; margin: .8rem 0; max-width: none; break-inside: avoid; }
.gate.pass { border-left-color: var(--green); } .gate.trip { border-left-color: var(--red); }
.gate.undecided { border-left-color: #a06a00; }
.todo { margin: .8rem 0 1rem; break-inside: avoid; }
.todo .verdict { font-weight: 600; margin: 0; }
.todo ul { margin: .3rem 0; padding-left: 1.3rem; }
.todo li { margin: .2rem 0; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .8rem 0; padding: 0 1rem; }
details[open] { padding-bottom: .8rem; }
summary { cursor: pointer; padding: .55rem 0; font-weight: 500; overflow-wrap: anywhere; }
.finding p { margin: .35rem 0; max-width: none; }
.finding .verdict { font-size: 1.12rem; font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tile { flex: 1 1 9.5rem; border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; break-inside: avoid; }
.tile .name { color: var(--soft); font-size: .82rem; display: block; }
.tile .value { font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; display: block; line-height: 1.3; }
.tile .span { color: var(--soft); font-size: .82rem; font-variant-numeric: tabular-nums; display: block; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.4; }
.scroll > table { min-width: 100%; }
.scroll.narrow > table { min-width: 28rem; }
th, td { padding: .36rem .7rem .36rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; vertical-align: bottom; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-left: .5rem;
  padding-right: .3rem; }
td.word { overflow-wrap: break-word; }
td.word:first-child { overflow-wrap: anywhere; min-width: 11rem; }
td.figure:last-child, th.figure:last-child { padding-right: 0; }
td .span { color: var(--soft); font-size: .92em; }
td .low { color: var(--soft); }
table.pairs th { font-weight: 500; color: var(--soft); white-space: nowrap; padding-right: 1.4rem; }
table.pairs td { overflow-wrap: anywhere; }
dl.listing { columns: 18rem; column-gap: 2rem; font-size: .85rem; margin: .5rem 0; }
dl.listing div { display: flex; gap: .8rem; justify-content: space-between; border-bottom: 1px solid var(--line); padding: .18rem 0;
  break-inside: avoid; }
dl.listing dt { color: var(--soft); white-space: nowrap; }
dl.listing dd { margin: 0; text-align: right; min-width: 0; overflow-wrap: anywhere; }
h4 { font-size: .95rem; margin: 1rem 0 .3rem; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; }
figure.small img { max-width: 34rem; width: 100%; }
figcaption, .note { color: var(--soft); font-size: .9rem; max-width: 48rem; }
figcaption { margin-top: .4rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--soft); font-size: .85rem; }
@page { size: A4; margin: 16mm 15mm; }
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 18pt; } h2 { font-size: 13.5pt; margin-top: 1.6rem; } h3 { font-size: 11pt; }
  h2, h3 { break-after: avoid; }
  tr, .tile, figure { break-inside: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .18rem .35rem .18rem 0; }
  th.figure { white-space: normal; }
  td.word:first-child { min-width: 27mm; }
  figure img { max-height: 88mm; }
  details { padding: 0 .6rem; margin: .3rem 0; }
  .run { break-before: page; }
  .run:first-of-type { break-before: auto; }
  .finding, .tile, pre, code { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
