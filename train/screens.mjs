// Synthetic screens: random HTML, laid out and painted by Chromium, with the truth read back from the DOM.
//
//   node screens.mjs --out DIR --count 40000 --seed 1 [--split train|heldout] [--chromium /usr/bin/chromium]
//   node screens.mjs --html FILE --size 392x308 --out FILE.png      (one picture of one page)
//
// Forty screens share one page and one screenshot. Each page gives DIR/page-00000.png and DIR/page-00000.json; the JSON
// lists, per screen, its rectangle on the page and its elements in reading order:
//   {kind, text, color, box: [x1, y1, x2, y2], words: "seen"|"unseen"|"pseudo"|"number", chars: [[char, cx, cy], ...]}
// A tenth of the word list never occurs in the train split; the heldout split draws half of its words from it.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values: opt } = parseArgs({ options: {
  out: { type: 'string', default: 'pages' }, count: { type: 'string', default: '400' },
  seed: { type: 'string', default: '1' }, split: { type: 'string', default: 'train' },
  html: { type: 'string' }, size: { type: 'string', default: '392x308' },
  chromium: { type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium' },
} });

// ---- randomness ---------------------------------------------------------------------------------------------------

let state = 0;
const seed = (n) => { state = Math.imul(n, 2654435761) >>> 0; };
const random = () => { // mulberry32
  state = (state + 0x6D2B79F5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const int = (a, b) => a + Math.floor(random() * (b - a + 1));
const pick = (list) => list[int(0, list.length - 1)];
const chance = (p) => random() < p;
const weighted = (table) => {
  let r = random() * Object.values(table).reduce((a, b) => a + b);
  for (const [key, w] of Object.entries(table)) if ((r -= w) < 0) return key;
  return Object.keys(table)[0];
};

// ---- words --------------------------------------------------------------------------------------------------------

const all = [...new Set(readFileSync(new URL('words.txt', import.meta.url), 'utf8').split(/\s+/).filter(Boolean))].sort();
const always = new Set(['Save', 'Cancel', 'Buy', 'Total', 'Email', 'Name', 'Search', 'Login', 'Checkout', 'Pay', 'Order']);
const unseen = all.filter((w, i) => i % 10 === 3 && !always.has(w));
const seen = all.filter((w) => !unseen.includes(w));

// Letter trigrams of the seen words make pseudo-words: English-looking, endless, never memorised.
const trigrams = new Map();
for (const w of seen) {
  const s = '^^' + w.toLowerCase() + '$';
  for (let i = 2; i < s.length; i++) {
    const key = s.slice(i - 2, i);
    if (!trigrams.has(key)) trigrams.set(key, []);
    trigrams.get(key).push(s[i]);
  }
}
const pseudo = () => {
  if (chance(0.3)) return Array.from({ length: int(2, 7) }, () => pick('abcdefghijklmnopqrstuvwxyz')).join('');
  for (;;) {
    let s = '^^';
    while (!s.endsWith('$') && s.length < 13) s += chance(0.08) ? pick('abcdefghijklmnopqrstuvwxyz') : pick(trigrams.get(s.slice(-2)) ?? ['$']);
    s = s.replace(/[\^$]/g, '');
    if (s.length >= 2 && s.length <= 10) return s;
  }
};
const title = (w) => w[0].toUpperCase() + w.slice(1).toLowerCase();

const digits = (n) => Array.from({ length: n }, () => int(0, 9)).join('');
const price = () => weighted({ a: 6, b: 2, c: 1 }) === 'a' ? `$${int(0, chance(0.3) ? 999 : 99)}.${digits(2)}` : pick([`€${int(1, 99)}.${digits(2)}`, `$${int(1, 999)}`, `£${int(1, 99)}.${digits(2)}`]);
const number = () => pick([
  () => String(int(0, 9)), () => String(int(10, 99)), () => String(int(100, 999)), () => digits(int(4, 6)),
  () => `${int(0, 100)}%`, () => `${int(0, 23)}:${digits(2)}`, () => `#${digits(int(2, 5))}`,
  () => `${int(1, 28)}/${int(1, 12)}/20${digits(2)}`, () => `${int(0, 9)}.${digits(int(1, 2))}`, () => `+${digits(int(2, 6))}`,
])();

// -> {text, words}. `words` says how the text relates to training: the score is reported by it.
function text(kind) {
  if (chance(kind === 'button' ? 0.08 : kind === 'heading' ? 0.04 : 0.15)) return { text: number(), words: 'number' };
  const source = opt.split === 'heldout' ? pick(['seen', 'unseen']) : weighted({ seen: 6, pseudo: 4 });
  const word = { seen: () => pick(seen), unseen: () => pick(unseen), pseudo }[source];
  const n = kind === 'button' || kind === 'field' ? Number(weighted({ 1: 8, 2: 2 })) : Number(weighted({ 1: 7, 2: 3, 3: 0.6 }));
  const look = weighted({ title: 7, first: 1.5, lower: 1.2, upper: 1.2 });
  const list = Array.from({ length: n }, (_, i) => {
    const w = word();
    return look === 'upper' ? w.toUpperCase() : look === 'lower' || (look === 'first' && i) ? w.toLowerCase() : title(w);
  });
  let s = list.join(' ');
  if (chance(0.05)) s += pick(['!', '?', '...', '.']);
  else if (kind === 'label' && chance(0.1)) s += ':';
  else if (chance(0.03)) s += ' ' + int(0, 20);
  else if (kind === 'field' && chance(0.12)) s = `${word().toLowerCase()}@${word().toLowerCase()}.${pick(['com', 'org', 'net'])}`;
  else if (chance(0.02)) s = `${word().toLowerCase()}${pick('-_/&')}${word().toLowerCase()}`;
  return { text: s, words: source };
}

// ---- looks --------------------------------------------------------------------------------------------------------

const COLORS = {
  red: ['#d62f2f', '#e53935', '#c62828', '#dc2626'], orange: ['#f57c00', '#fb8c00', '#ea7a0c'],
  yellow: ['#fbc02d', '#fdd835', '#facc15'], green: ['#2e7d32', '#43a047', '#16a34a', '#27ae60'],
  teal: ['#00897b', '#009688', '#0d9488'], blue: ['#1e88e5', '#2962ff', '#1565c0', '#2563eb'],
  purple: ['#8e24aa', '#7b1fa2', '#7c3aed'], pink: ['#ec4899', '#f06292', '#f472b6'],
  gray: ['#757575', '#6b7280', '#888888', '#9a9a9a'], black: ['#111111', '#1f1f1f', '#000000'], white: ['#ffffff', '#f4f4f4'],
};
const TEXT_LIGHT = { black: 10, gray: 2, red: 2, green: 2, blue: 2, purple: 1, teal: 1, orange: 1, pink: 1 };
const TEXT_DARK = { white: 10, gray: 2, red: 1, green: 2, blue: 2, yellow: 2, orange: 2, pink: 1, purple: 1 };
const ON_DARK = { red: ['#ff5c5c', '#f44336'], blue: ['#5c9dff', '#42a5f5'], purple: ['#b57bff', '#ab5cf0'], gray: ['#9e9e9e', '#a8a8a8'], green: ['#4caf50', '#34d17b'] };
const FONTS = { 'Liberation Sans': 4, 'DejaVu Sans': 3, 'Roboto': 3, 'Open Sans': 2, 'Noto Sans': 2, 'Inter': 3, 'Lato': 2, 'Liberation Serif': 1, 'Noto Serif': 1, 'Liberation Mono': 0.6, 'DejaVu Sans Mono': 0.4 };

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const css = (c) => `rgb(${c.map((v) => Math.max(0, Math.min(255, Math.round(v)))).join(',')})`;
const jitter = (hex, by = 9) => rgb(hex).map((v) => v + int(-by, by));
const luminance = (c) => 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2];
const escape = (s) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;');

function element(kind, look, fixed) {
  const { text: t, words } = fixed ?? text(kind);
  const style = [];
  let color;
  const size = kind === 'heading' ? int(19, 26) : look.size + (chance(0.3) ? int(-1, 3) : 0);
  style.push(`font-size:${Math.max(16, Math.min(26, size))}px`, `font-weight:${kind === 'heading' ? pick([600, 700]) : kind === 'button' ? pick([400, 500, 600, 700]) : chance(0.2) ? 700 : 400}`);
  if (kind === 'button') {
    color = weighted(look.dark
      ? { red: 3, orange: 2, yellow: 2, green: 3, teal: 2, blue: 3, purple: 2, pink: 2, gray: 2, white: 1.5 }
      : { red: 3, orange: 2, yellow: 2, green: 3, teal: 2, blue: 3, purple: 2, pink: 2, gray: 2, black: 1.5 });
    const fill = jitter(pick(COLORS[color]), color === 'gray' || color === 'black' || color === 'white' ? 3 : 9);
    const l = luminance(fill);
    const ink = l > 165 || (l > 135 && chance(0.4)) ? pick(['#000', '#1a1a1a', '#222']) : pick(['#fff', '#fff', '#f5f5f5']);
    style.push(`background:${css(fill)}`, `color:${ink}`, `padding:${int(4, 11)}px ${int(8, 20)}px`, `border-radius:${pick([0, 3, 4, 6, 8, 12, 99])}px`);
    if (chance(0.2)) style.push('box-shadow:0 1px 3px rgba(0,0,0,.4)');
    if (chance(0.1)) style.push(`border:1px solid ${css(fill.map((v) => v * 0.75))}`);
  } else if (kind === 'field') {
    color = look.dark ? 'white' : 'black';
    style.push(look.dark ? `background:${css(jitter('#303036', 8))};color:#f2f2f2;border:1px solid ${pick(['#666', '#888', '#aaa'])}`
      : `background:#fff;color:${pick(['#000', '#111', '#222'])};border:${pick([1, 1, 2])}px solid ${pick(['#888', '#999', '#bbb', '#555', '#4a90d9'])}`,
      `padding:${int(4, 9)}px ${int(6, 12)}px`, `border-radius:${pick([0, 2, 4, 6, 8])}px`, `min-width:${pick([0, 60, 90, 120, 150])}px`);
  } else {
    color = kind === 'link' ? weighted({ blue: 6, purple: 1, teal: 1, red: 0.7, green: 0.7 })
      : chance(kind === 'heading' ? 0.7 : 0.55) ? (look.dark ? 'white' : 'black') : weighted(look.dark ? TEXT_DARK : TEXT_LIGHT);
    style.push(`color:${css(jitter(pick((look.dark && ON_DARK[color]) || COLORS[color]), color === 'gray' || color === 'black' || color === 'white' ? 2 : 8))}`);
    if (kind === 'link') style.push('text-decoration:underline');
  }
  const data = JSON.stringify({ kind, text: t, color, words }).replace(/&/g, '&amp;').replace(/"/g, '&quot;');
  return `<span class="e" style="${style.join(';')}" data-e="${data}">${escape(t)}</span>`;
}

// ---- one screen ---------------------------------------------------------------------------------------------------

const SIZES = [[168, 112], [196, 112], [224, 112], [224, 168], [252, 140], [280, 168], [280, 196], [308, 140], [308, 224], [336, 168],
  [336, 224], [336, 280], [364, 252], [392, 224], [392, 308], [420, 196], [448, 224], [448, 280], [448, 336], [224, 280], [196, 224], [252, 336]];

function screen(x, y) {
  const [w, h] = pick(SIZES);
  const dark = chance(0.28);
  const look = { dark, size: int(16, 22) };
  const page = jitter(dark ? pick(['#121212', '#1e1e2e', '#202124', '#0f172a', '#263238', '#1b1b1b']) : pick(['#ffffff', '#ffffff', '#f5f5f5', '#fafafa', '#eef2f7', '#fff8e7', '#f0f7f0', '#e8eaf0']), 3);
  const rows = [];
  const maxRows = Math.max(1, Math.round(h / int(44, 60)));
  const n = w * h < 24000 ? int(1, 2) : w * h < 50000 ? int(1, 3) : int(2, Math.max(2, Math.min(6, maxRows)));
  for (let i = 0; i < n; i++) {
    const r = random();
    const justify = pick(['flex-start', 'flex-start', 'center', 'space-between', 'flex-end']);
    let cells;
    if (i === 0 && n > 1 && r < 0.35) cells = [element('heading', look)];
    else if (r < 0.16) cells = [element('label', look), element('field', look)];
    else if (r < 0.24) cells = [element('label', look), element('label', look, { text: price(), words: 'number' })];
    else if (r < 0.30) cells = [element('label', look, { text: price(), words: 'number' })];
    else if (r < 0.46) cells = Array.from({ length: w > 300 ? int(2, 3) : 2 }, () => element('button', look));
    else cells = Array.from({ length: chance(0.25) && w > 260 ? 2 : 1 }, () => element(weighted({ button: 10, link: 4, label: 4, field: 2.5, heading: 1 }), look));
    rows.push(`<div style="display:flex;align-items:center;justify-content:${justify};gap:${int(10, 26)}px;margin-bottom:${int(10, 26)}px;padding-left:${chance(0.3) ? int(0, 40) : 0}px">${cells.join('')}</div>`);
  }
  let body = rows.join('');
  const pad = int(6, 24);
  const layout = random();
  let box = `left:0;top:0;width:${w}px;height:${h}px;padding:${pad}px;`;
  if (layout < 0.5) box += `display:flex;flex-direction:column;justify-content:${pick(['flex-start', 'center', 'space-evenly'])};`;
  else if (layout < 0.7 && w > 220 && h > 150) { // a card
    const m = int(6, 14);
    box = `left:${m}px;top:${m}px;width:${w - 2 * m}px;height:${h - 2 * m}px;padding:${int(8, 18)}px;border-radius:${pick([0, 4, 8, 12])}px;`
      + (dark ? `background:${css(page.map((v) => v + 14))};border:1px solid #444;` : `background:#fff;border:1px solid ${pick(['#ddd', '#ccc', '#bbb'])};${chance(0.5) ? 'box-shadow:0 2px 6px rgba(0,0,0,.2);' : ''}`);
  }
  const font = weighted(FONTS);
  return { w, h, x, y, dark, html: `<div class="s" style="left:${x}px;top:${y}px;width:${w}px;height:${h}px;background:${css(page)};font-family:'${font}'"><div class="b" style="${box}">${body}</div></div>` };
}

// Runs in the page: drop what does not fit, then read boxes and character centres.
function measure() {
  return [...document.querySelectorAll('.s')].map((s) => {
    const o = s.getBoundingClientRect();
    const out = [], kept = [], texts = new Set();
    for (const e of s.querySelectorAll('.e')) {
      const r = e.getBoundingClientRect();
      const item = JSON.parse(e.dataset.e);
      const bad = r.left < o.left + 1 || r.top < o.top + 1 || r.right > o.right - 1 || r.bottom > o.bottom - 1 || texts.has(item.text)
        || kept.some((k) => r.left < k.right + 3 && k.left < r.right + 3 && r.top < k.bottom + 3 && k.top < r.bottom + 3);
      if (bad) { e.style.visibility = 'hidden'; continue; }
      kept.push(r); texts.add(item.text);
      item.box = [r.left - o.left, r.top - o.top, r.right - o.left, r.bottom - o.top].map(Math.round);
      item.chars = [];
      const node = e.firstChild, range = document.createRange();
      for (let i = 0; i < node.length; i++) {
        range.setStart(node, i); range.setEnd(node, i + 1);
        const c = range.getClientRects()[0];
        if (c) item.chars.push([node.data[i], +((c.left + c.right) / 2 - o.left).toFixed(1), +((c.top + c.bottom) / 2 - o.top).toFixed(1)]);
      }
      out.push(item);
    }
    return out;
  });
}

const CELL = [456, 344], COLS = 4, ROWS = 10;
const browser = await chromium.launch({ executablePath: opt.chromium, args: ['--no-sandbox', '--disable-gpu', '--font-render-hinting=none'] });
if (opt.html) {
  const [width, height] = opt.size.split('x').map(Number);
  const tab = await browser.newPage({ viewport: { width, height } });
  await tab.setContent(readFileSync(opt.html, 'utf8'));
  await tab.screenshot({ path: opt.out });
  await browser.close();
  process.exit(0);
}
mkdirSync(opt.out, { recursive: true });
const tab = await browser.newPage({ viewport: { width: CELL[0] * COLS, height: CELL[1] * ROWS } });
const cdp = await tab.context().newCDPSession(tab);
const pages = Math.ceil(Number(opt.count) / (COLS * ROWS));
for (let p = 0; p < pages; p++) {
  seed(Number(opt.seed) * 1000003 + p);
  random();
  const screens = Array.from({ length: COLS * ROWS }, (_, i) => screen(CELL[0] * (i % COLS), CELL[1] * Math.floor(i / COLS)));
  await tab.setContent(`<style>*{box-sizing:border-box;margin:0}.s{position:absolute;overflow:hidden}.b{position:absolute}.e{line-height:1.25;white-space:nowrap;display:inline-block;flex:none}</style>${screens.map((s) => s.html).join('')}`);
  const items = await tab.evaluate(measure);
  const shot = await cdp.send('Page.captureScreenshot', { format: 'png', optimizeForSpeed: true });
  const name = join(opt.out, `page-${String(p).padStart(5, '0')}`);
  writeFileSync(`${name}.png`, Buffer.from(shot.data, 'base64'));
  writeFileSync(`${name}.json`, JSON.stringify(screens.map(({ w, h, x, y, dark }, i) => ({ w, h, x, y, dark, items: items[i] })).filter((s) => s.items.length)));
}
await browser.close();
