"""The page's style. It has a light and a dark look, and fits a telephone: wide tables scroll by themselves."""

STYLE = """
:root { --ink: #1d2430; --soft: #5d6675; --line: #d5d9e0; --faint: #eef0f3; --paper: #fff; --bad: #a31515;
  --adapter: #2563a8; --base: #7d8490; --chance: #c2610c }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe3ea; --soft: #9aa3b2; --line: #3d4450; --faint: #222730;
  --paper: #14171c; --bad: #ff8a80; --adapter: #6db1ff; --base: #9aa3b2; --chance: #ffa657; color-scheme: dark } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 1.5rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }
a { color: var(--adapter) } h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .2rem }
h1, h2, p { overflow-wrap: anywhere }
.wide { overflow-x: auto } .note { color: var(--soft); font-weight: normal } .bad { color: var(--bad) }
.small { font-size: .85rem; margin: .2rem 0 } code { font: .85em ui-monospace, monospace }
.mark { border: 1px solid var(--chance); color: var(--chance); border-radius: .25rem; padding: 0 .3rem;
  font-size: .8rem; font-weight: normal }
table { border-collapse: collapse; margin: .6rem 0 }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; font-weight: normal; vertical-align: top;
  white-space: nowrap }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums }
td.long { white-space: normal; min-width: 9rem } ul.small { padding-left: 1.2rem }
thead th { color: var(--soft); border-bottom: 1px solid var(--line) }
tr.metric th { padding-top: .7rem; white-space: normal } tr.metric b { font-weight: 600 }
svg { display: block } .axis { stroke: var(--line) }
.dot { fill: var(--adapter) } .bar { stroke: var(--adapter) } .base .dot { fill: var(--base) }
.base .bar { stroke: var(--base) } .chance { stroke: var(--chance); stroke-dasharray: 3 2 }
"""
