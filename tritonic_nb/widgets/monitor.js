// Memory as it moves. The kernel sends what is new; the model keeps the last half hour, and each
// view draws it: a canvas for the events, one for each panel, one for the axis of time.

const KINDS = ["switch", "register", "grow", "unregister", "error"];
const SPANS = [[30, "30 s"], [60, "1 min"], [300, "5 min"], [1800, "30 min"]];
const MOST_EVENTS = 500;
const LOOK_MS = 7000; // how often a view that is seen says so
const WORDS_MS = 4000; // how often what a screen reader hears changes at most
const NUMBERS_MS = 450; // and what stands beside the panels
const DEAF_MS = 15_000; // without an answer after which it says so, too
const SILENT_S = 5; // without a sample after which it says so
const LEFT = 74;
const LEFT_NARROW = 68;
const NARROW = 560;
const ROW = 16;
const LEAST_TOP = 1000;
const DASHES = [[], [7, 3], [2, 2], [8, 3, 2, 3]];

// --- the history, one for all views of a model ---------------------------------------------------

function makeStore() {
  return {
    names: [], times: [], rows: [], events: [], panels: [], counts: {}, missing: {},
    ended: false, askedAt: null, answered: false, heardAt: 0, heard: false, failed: "", listeners: new Set(), tiers: [],
  };
}

function parsed(sample) {
  const parts = sample.split(",");
  const row = new Float64Array(parts.length - 1);
  for (let i = 1; i < parts.length; i++) row[i - 1] = parts[i] === "" ? NaN : Number(parts[i]);
  return [Number(parts[0]), row];
}

function take(store, message) {
  if (message.kind === "all") {
    store.times = [];
    store.rows = [];
    store.events = [];
  }
  for (const key of ["names", "panels", "counts", "missing", "ended"]) {
    if (key in message) store[key] = message[key];
  }
  let added = false;
  for (const sample of message.samples ?? []) {
    const [time, row] = parsed(sample);
    if (store.times.length && time <= store.times.at(-1)) continue;
    store.times.push(time);
    store.rows.push(row);
    added = true;
  }
  store.events.push(...(message.events ?? []));
  if (store.events.length > MOST_EVENTS) store.events.splice(0, store.events.length - MOST_EVENTS);
  if (added) {
    store.heardAt = performance.now();
    store.heard = true;
  }
  if (++store.taken % 50 === 0 || message.kind === "all") thin(store);
}

// The older a sample is, the more of them are one, as the kernel has it: the most of each, and
// of what is free the least.
function thin(store) {
  const newest = store.times.at(-1);
  const low = store.names.map((name) => /\/(free|available)$/.test(name));
  const times = [];
  const rows = [];
  let before = null;
  for (let i = 0; i < store.times.length; i++) {
    const time = store.times[i];
    const tier = store.tiers.find(([age]) => newest - time <= age);
    if (tier === undefined) continue;
    const key = tier[1] ? `${tier[1]} ${Math.floor(time / tier[1])}` : null;
    if (key !== null && key === before) {
      rows.push(together(rows.pop(), store.rows[i], low));
      times[times.length - 1] = time;
    } else {
      times.push(time);
      rows.push(store.rows[i]);
    }
    before = key;
  }
  store.times = times;
  store.rows = rows;
}

function together(one, two, low) {
  const longer = new Float64Array(Math.max(one.length, two.length));
  for (let i = 0; i < longer.length; i++) {
    const a = i < one.length ? one[i] : NaN;
    const b = i < two.length ? two[i] : NaN;
    longer[i] = Number.isNaN(a) ? b : Number.isNaN(b) ? a : low[i] ? Math.min(a, b) : Math.max(a, b);
  }
  return longer;
}

function value(row, index) {
  return index < row.length ? row[index] : NaN;
}

// What the areas and lines of a panel are at one moment.
function filled(panel, row) {
  let left = panel.within === null ? Infinity : value(row, panel.within) || 0;
  const areas = panel.areas.map((area) => {
    let size = 0;
    if (area.series.length === 0) size = left;
    else for (const index of area.series) size += value(row, index) || 0;
    size = Math.min(size, left);
    left -= size;
    return size;
  });
  return { areas, lines: panel.lines.map((line) => value(row, line.series[0])) };
}

// --- words ---------------------------------------------------------------------------------------

function humanBytes(count) {
  let size = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(size) < 999.5) return `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return Math.abs(size) < 999.5 ? `${Number(size.toPrecision(3))} TB` : `${Math.round(size)} TB`;
}

function text(panel, number) {
  if (!Number.isFinite(number)) return "–";
  if (panel.percent) return `${Math.round(number)} %`;
  return number ? humanBytes(Math.round(number)) : "0";
}

function make(tag, className, words) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (words !== undefined) made.textContent = words;
  return made;
}

function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// --- scales --------------------------------------------------------------------------------------

function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => power * each >= number * 0.999);
}

function steps(high, pixels, least) {
  const wanted = (high * least) / pixels;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = power * [1, 2, 5, 10].find((each) => power * each >= wanted * 0.999);
  const found = [];
  for (let i = 0; i * step <= high * (1 + 1e-9); i++) found.push(i * step);
  return found;
}

function timeSteps(span) {
  const [unit, name] = span > 120 ? [60, "min"] : [1, "s"];
  const step = [1, 2, 5, 10, 20, 30].find((each) => (each * unit * 6.5) >= span) ?? 60;
  const found = [];
  for (let ago = 0; ago <= span + 1e-9; ago += step * unit) found.push(ago);
  return { found, unit, name };
}

// Indices of what is within the span, with one sample before it so that lines reach the edge.
function firstSeen(times, from) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < from) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

// --- a view --------------------------------------------------------------------------------------

class View {
  constructor(model, el, store) {
    this.model = model;
    this.store = store;
    this.id = Math.random().toString(36).slice(2);
    this.root = make("div", "tnb-plot");
    el.appendChild(this.root);
    this.panels = [];
    this.shape = "";
    this.dirty = true;
    this.edge = null; // the time at the right, as the samples count it
    this.seen = false;
    this.frame = 0;
    this.numbersAt = -Infinity;
    this.wordsAt = -Infinity;
    this.quiet = matchMedia("(prefers-reduced-motion: reduce)");
    this.build();
    this.readColors();
    this.watch();
  }

  build() {
    const bar = make("div", "tnb-plot-bar");
    this.pause = make("button", "tnb-plot-button", "Pause");
    this.pause.type = "button";
    this.pause.addEventListener("click", () => {
      this.set("paused", !this.model.get("paused"));
    });
    const spans = make("div", "tnb-plot-group");
    spans.setAttribute("role", "group");
    spans.setAttribute("aria-label", "time shown");
    this.spans = SPANS.map(([seconds, words]) => {
      const button = make("button", "tnb-plot-button", words);
      button.type = "button";
      button.addEventListener("click", () => this.set("span_s", seconds));
      spans.appendChild(button);
      return [seconds, button];
    });
    const exports = make("div", "tnb-plot-group");
    exports.setAttribute("role", "group");
    exports.setAttribute("aria-label", "download");
    for (const [kind, words] of [["csv", "Save CSV"], ["png", "Save PNG"]]) {
      const button = make("button", "tnb-plot-button", words);
      button.type = "button";
      button.addEventListener("click", () => this.model.send({ kind, view: this.id }));
      exports.appendChild(button);
    }
    const freeze = make("button", "tnb-plot-button tnb-plot-freeze", "Freeze");
    freeze.type = "button";
    freeze.title = "end here, and keep a picture that a saved notebook shows";
    freeze.addEventListener("click", () => {
      freeze.disabled = true;
      say(freeze, "Freezing…");
      this.model.send({ kind: "freeze" });
    });
    bar.append(this.pause, spans, exports, freeze);
    this.warning = make("div", "tnb-plot-warning");
    this.warning.setAttribute("role", "status");
    this.warning.setAttribute("aria-live", "polite");
    this.state = make("div", "tnb-plot-state");
    this.body = make("div", "tnb-plot-body");
    this.missing = make("div", "tnb-plot-missing");
    const details = make("details", "tnb-plot-table");
    details.appendChild(make("summary", "", "Numbers"));
    this.table = make("table");
    const head = make("tr");
    for (const words of ["what", "now", "peak, or least left"]) {
      const cell = make("th", "", words);
      cell.scope = "col";
      head.appendChild(cell);
    }
    const thead = make("thead");
    thead.appendChild(head);
    this.rows = make("tbody");
    this.table.append(thead, this.rows);
    details.appendChild(this.table);
    details.addEventListener("toggle", () => { this.wordsAt = -Infinity; this.dirty = true; });
    this.details = details;
    this.root.append(bar, this.warning, this.state, this.body, this.missing, details);
    this.showControls();
  }

  set(name, to) {
    this.model.set(name, to);
    this.model.save_changes();
  }

  showControls() {
    const paused = this.model.get("paused");
    say(this.pause, paused ? "Go on" : "Pause");
    this.pause.setAttribute("aria-pressed", String(paused));
    for (const [seconds, button] of this.spans) {
      button.setAttribute("aria-pressed", String(this.model.get("span_s") === seconds));
    }
    this.dirty = true;
    this.numbersAt = -Infinity;
  }

  watch() {
    this.changed = () => this.showControls();
    this.model.on("change:paused", this.changed);
    this.model.on("change:span_s", this.changed);
    this.heard = () => { this.dirty = true; };
    this.store.listeners.add(this);
    this.resizes = new ResizeObserver(() => { this.dirty = true; });
    this.resizes.observe(this.root);
    this.themes = new MutationObserver(() => { this.readColors(); this.dirty = true; });
    const what = { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "theme", "data-theme"] };
    this.themes.observe(document.body, what);
    this.themes.observe(document.documentElement, what);
    this.sights = new IntersectionObserver((found) => this.sight(found.at(-1).isIntersecting));
    this.sights.observe(this.root);
    this.visibility = () => this.sight(this.intersects);
    document.addEventListener("visibilitychange", this.visibility);
    this.looks = setInterval(() => this.look(), LOOK_MS);
  }

  sight(intersects) {
    this.intersects = intersects;
    const seen = intersects && document.visibilityState === "visible";
    if (seen === this.seen) return;
    this.seen = seen;
    cancelAnimationFrame(this.frame);
    if (seen) {
      this.dirty = true;
      this.readColors();
      this.look();
      this.tick();
    }
  }

  look() {
    if (!this.seen) return;
    this.store.askedAt ??= performance.now();
    this.model.send({ kind: "look", newest: this.store.times.at(-1) ?? null });
  }

  stop() {
    cancelAnimationFrame(this.frame);
    clearInterval(this.looks);
    this.resizes.disconnect();
    this.themes.disconnect();
    this.sights.disconnect();
    document.removeEventListener("visibilitychange", this.visibility);
    this.model.off("change:paused", this.changed);
    this.model.off("change:span_s", this.changed);
    this.store.listeners.delete(this);
  }

  readColors() {
    const style = getComputedStyle(this.root);
    const read = (name) => style.getPropertyValue(`--tnb-${name}`).trim();
    this.color = {
      text: read("text"), muted: read("muted"), grid: read("grid"), base: read("base"),
      face: read("face"), free: read("free"), warning: read("warning"),
      own: [0, 1, 2, 3, 4, 5].map((n) => read(`own-${n}`)),
      other: [0, 1, 2].map((n) => read(`other-${n}`)),
      more: read("more"), rest: read("rest"),
      lines: [0, 1, 2, 3].map((n) => read(`line-${n}`)),
      marks: Object.fromEntries(KINDS.map((kind) => [kind, read(`mark-${kind}`)])),
      bars: read("bars"),
    };
    this.font = `11px ${style.fontFamily}`;
    this.shape = ""; // names carry colours, too
  }

  // Draws when there is something new, or when the plot has moved by a pixel meanwhile.
  tick() {
    this.frame = requestAnimationFrame(() => {
      const now = performance.now();
      const edge = this.rightEdge(now);
      const pixel = this.model.get("span_s") / Math.max(200, this.plotWidth ?? 400);
      const moved = !this.quiet.matches && Math.abs(edge - (this.edge ?? -1e9)) >= pixel;
      if (this.dirty || moved) {
        this.edge = edge;
        this.dirty = false;
        this.draw(now);
      }
      this.tick();
    });
  }

  rightEdge(now) {
    const { times, heardAt, heard } = this.store;
    if (!times.length) return 0;
    const newest = times.at(-1);
    if (this.model.get("paused") || !heard || this.quiet.matches) return newest;
    const since = Math.min((now - heardAt) / 1000, SILENT_S);
    const guess = newest + since;
    // Samples come a little early or late: the plot never moves back for that.
    return this.edge !== null && this.edge > guess && this.edge - guess < 2 ? this.edge : guess;
  }

  colorsOf(layers) {
    let own = 0;
    let other = 0;
    return layers.map(({ kind }) => {
      if (kind === "own") return this.color.own[own++ % 6];
      if (kind === "other") return this.color.other[other++ % 3];
      return kind === "more" ? this.color.more : this.color.rest;
    });
  }

  // Makes the panels' elements anew when there are others, or others' names.
  arrange() {
    const { panels, counts } = this.store;
    const rows = KINDS.filter((kind) => counts[kind]);
    const shape = JSON.stringify([
      rows, Boolean(counts.infer),
      panels.map((p) => [p.title, p.total, p.areas.map((a) => [a.name, a.kind]), p.lines.map((l) => l.name)]),
    ]);
    if (shape === this.shape) return;
    this.shape = shape;
    this.numbersAt = this.wordsAt = -Infinity;
    this.body.replaceChildren();
    this.marked = rows;
    this.events = null;
    const count = rows.length + (counts.infer ? 1 : 0);
    if (count) {
      this.events = this.row(count * ROW + 4, "events");
      this.events.counts = [...rows, ...(counts.infer ? ["infer"] : [])].map((kind) => {
        const line = make("div", "tnb-plot-count");
        this.events.side.appendChild(line);
        return [kind, line];
      });
    }
    this.panels = panels.map((panel) => this.panelRow(panel));
    this.axis = this.row(34, "axis");
  }

  row(height, kind) {
    const row = make("div", `tnb-plot-row tnb-plot-${kind}`);
    const holder = make("div", "tnb-plot-canvas");
    const canvas = make("canvas");
    canvas.style.height = `${height}px`;
    if (kind === "panel") canvas.setAttribute("role", "img");
    else canvas.setAttribute("aria-hidden", "true");
    holder.appendChild(canvas);
    const side = make("div", "tnb-plot-side");
    row.append(holder, side);
    this.body.appendChild(row);
    return { row, canvas, side, height, context: canvas.getContext("2d") };
  }

  panelRow(panel) {
    const heading = make("div", "tnb-plot-heading");
    heading.appendChild(make("span", "tnb-plot-title", panel.title));
    const note = make("span", "tnb-plot-note");
    heading.appendChild(note);
    this.body.appendChild(heading);
    const names = panel.areas.length + panel.lines.length + (panel.total && panel.areas.length ? 1 : 0);
    const made = this.row(Math.max(panel.areas.length ? 140 : 80, names * 18 + 6), "panel");
    const colors = this.colorsOf(panel.areas);
    const list = make("ul", "tnb-plot-names");
    const item = (name, color, dash) => {
      const line = make("li");
      const swatch = make("span", dash === undefined ? "tnb-plot-swatch" : `tnb-plot-swatch tnb-plot-dash-${dash}`);
      swatch.style.setProperty("--tnb-swatch", color);
      swatch.setAttribute("aria-hidden", "true");
      const label = make("span", "tnb-plot-name", name);
      label.title = name;
      const number = make("span", "tnb-plot-number");
      line.append(swatch, label, number);
      list.appendChild(line);
      return { line, number };
    };
    const free = panel.total && panel.areas.length ? item("free", this.color.free) : null;
    const areas = panel.areas.map((area, i) => [area, i]).reverse()
      .map(([area, i]) => [i, item(area.name, colors[i])])
      .sort((a, b) => a[0] - b[0]).map(([, made]) => made);
    const lines = panel.lines.map((line, i) => item(line.name, this.color.lines[i % 4], i % 4));
    made.side.appendChild(list);
    return { ...made, note, colors, free, areas, lines };
  }

  draw(now) {
    const { store } = this;
    if (!this.root.isConnected) return;
    this.arrange();
    // For those who look from outside.
    this.root.dataset.samples = store.times.length;
    this.root.dataset.answered = store.answered;
    const span = this.model.get("span_s");
    const edge = this.edge;
    const from = edge - span;
    const first = firstSeen(store.times, from);
    const times = store.times.slice(first);
    const rows = store.rows.slice(first);
    const words = now - this.wordsAt >= WORDS_MS;
    const numbers = now - this.numbersAt >= NUMBERS_MS;
    this.narrow = this.root.clientWidth < NARROW;
    const left = this.narrow ? LEFT_NARROW : LEFT;
    const table = [];
    if (this.events) this.drawEvents(times, rows, from, span, left);
    store.panels.forEach((panel, i) => {
      const seen = this.drawPanel(panel, this.panels[i], times, rows, from, span, left);
      if (numbers) this.writeNames(panel, this.panels[i], seen);
      if (words) table.push(...this.describe(panel, this.panels[i], seen));
    });
    this.drawAxis(span, left);
    if (numbers) {
      this.numbersAt = now;
      this.writeWords(now, times.at(-1), rows.at(-1));
    }
    if (words && times.length) {
      this.wordsAt = now;
      if (this.details.open) this.writeTable(table);
    }
  }

  prepare(part, left) {
    const { canvas, context, height } = part;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.parentElement.clientWidth;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.width = `${width}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = this.font;
    context.textBaseline = "middle";
    const right = width - 6;
    this.plotWidth = right - left;
    return { c: context, right, width, height };
  }

  grid(c, span, left, right, top, bottom) {
    c.strokeStyle = this.color.grid;
    c.lineWidth = 1;
    c.beginPath();
    for (const ago of timeSteps(span).found) {
      const x = Math.round(right - (ago / span) * (right - left)) + 0.5;
      c.moveTo(x, top);
      c.lineTo(x, bottom);
    }
    c.stroke();
  }

  drawEvents(times, rows, from, span, left) {
    const { c, right, height } = this.prepare(this.events, left);
    const x = (time) => left + ((time - from) / span) * (right - left);
    this.grid(c, span, left, right, 0, height);
    this.marked.forEach((kind, n) => {
      const y = ROW * (n + 0.5) + 1;
      c.fillStyle = this.color.muted;
      c.textAlign = "right";
      c.fillText(kind, left - 8, y);
      c.fillStyle = this.color.marks[kind];
      for (const [number, time] of this.store.events) {
        if (KINDS[number] === kind && time >= from && x(time) <= right + 1) mark(c, kind, x(time), y);
      }
    });
    const index = this.store.names.indexOf("infer/count");
    if (!this.store.counts.infer || index < 0) return;
    const bottom = ROW * (this.marked.length + 1) - 1;
    c.fillStyle = this.color.muted;
    c.textAlign = "right";
    c.fillText("infer/s", left - 8, bottom - ROW / 2 + 1);
    const rates = times.map((time, i) => {
      if (!i) return 0;
      const grown = value(rows[i], index) - value(rows[i - 1], index);
      return grown > 0 ? grown / (time - times[i - 1]) : 0;
    });
    const most = Math.max(...rates, 0);
    c.fillStyle = this.color.bars;
    c.save();
    c.beginPath();
    c.rect(left, 0, right - left, height);
    c.clip();
    for (let i = 1; i < times.length; i++) {
      const tall = most ? (rates[i] / most) * (ROW - 3) : 0;
      c.fillRect(x(times[i - 1]), bottom - tall, x(times[i]) - x(times[i - 1]), tall);
    }
    c.restore();
    c.strokeStyle = this.color.base;
    c.beginPath();
    c.moveTo(left, bottom + 0.5);
    c.lineTo(right, bottom + 0.5);
    c.stroke();
    this.rate = { now: rates.at(-1) ?? 0, most };
  }

  drawPanel(panel, part, times, rows, from, span, left) {
    const { c, right, height } = this.prepare(part, left);
    const all = rows.map((row) => filled(panel, row));
    const sums = all.map(({ areas }) => areas.reduce((a, b) => a + b, 0));
    let peak = Math.max(0, ...sums);
    for (const { lines } of all) for (const each of lines) if (each > peak) peak = each;
    let whole = panel.percent;
    let high = 100;
    if (!panel.percent) {
      whole = Boolean(panel.total) && peak >= 0.3 * panel.total;
      high = whole ? Math.max(panel.total, peak) : roundUp(Math.max(peak * 1.1, LEAST_TOP));
    }
    const top = 6;
    const bottom = height - 7;
    const x = (time) => left + ((time - from) / span) * (right - left);
    const y = (number) => bottom - (number / high) * (bottom - top);
    this.grid(c, span, left, right, top, bottom);
    for (const number of steps(high, bottom - top, panel.areas.length ? 30 : 22)) {
      const at = Math.round(y(number)) + 0.5;
      c.strokeStyle = number ? this.color.grid : this.color.base;
      c.beginPath();
      c.moveTo(left, at);
      c.lineTo(right, at);
      c.stroke();
      c.fillStyle = this.color.muted;
      c.textAlign = "right";
      c.fillText(text(panel, number), left - 8, at);
    }
    c.save();
    c.beginPath();
    c.rect(left, top - 2, right - left, bottom - top + 4);
    c.clip();
    const gap = this.longestGap(times);
    for (const [start, end] of pieces(times, gap)) {
      const xs = times.slice(start, end).map(x);
      if (xs.length === 1) xs[0] -= 1; // one moment alone is a thin line
      const part_ = all.slice(start, end);
      let low = part_.map(() => 0);
      panel.areas.forEach((_, n) => {
        const upper = low.map((value, i) => value + part_[i].areas[n]);
        if (part_.some(({ areas }) => areas[n] > 0)) this.area(c, xs, low.map(y), upper.map(y), part.colors[n]);
        low = upper;
      });
      if (whole && panel.total && panel.areas.length) {
        this.area(c, xs, low.map(y), low.map((each) => y(Math.max(each, panel.total))), this.color.free);
      }
      panel.lines.forEach((_, n) => this.line(c, xs, part_.map(({ lines }) => y(lines[n])), n));
    }
    c.restore();
    const warns = panel.warn_at !== null && panel.warn_at <= high;
    if (warns) {
      c.strokeStyle = this.color.warning;
      c.setLineDash([5, 3]);
      c.beginPath();
      c.moveTo(left, y(panel.warn_at));
      c.lineTo(right, y(panel.warn_at));
      c.stroke();
      c.setLineDash([]);
    }
    const notes = [];
    if (panel.total && panel.areas.length && !whole) notes.push("zoomed in");
    if (warns) notes.push(`dashed: warning from ${text(panel, panel.warn_at)} on`);
    say(part.note, notes.join("; "));
    return { all, sums };
  }

  // Where no samples were taken nothing is drawn.
  longestGap(times) {
    const apart = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
    return Math.max(2.5, 4 * (apart[Math.floor(apart.length / 2)] ?? 0), 2.5 * this.coarsest(times));
  }

  coarsest(times) {
    const age = (times.at(-1) ?? 0) - (times[0] ?? 0);
    return this.store.tiers.find(([most]) => age <= most)?.[1] ?? 4;
  }

  area(c, xs, low, upper, color) {
    c.fillStyle = color;
    c.beginPath();
    xs.forEach((x, i) => c.lineTo(x, upper[i]));
    if (xs.length === 1) c.lineTo(xs[0] + 1, upper[0]);
    if (xs.length === 1) c.lineTo(xs[0] + 1, low[0]);
    for (let i = xs.length - 1; i >= 0; i--) c.lineTo(xs[i], low[i]);
    c.fill();
    c.strokeStyle = this.color.face;
    c.lineWidth = 0.75;
    c.beginPath();
    xs.forEach((x, i) => c.lineTo(x, upper[i]));
    c.stroke();
  }

  line(c, xs, ys, n) {
    c.strokeStyle = this.color.lines[n % 4];
    c.lineWidth = 1.75;
    c.setLineDash(DASHES[n % 4]);
    c.beginPath();
    let open = false;
    xs.forEach((x, i) => {
      if (!Number.isFinite(ys[i])) open = false;
      else if (open) c.lineTo(x, ys[i]);
      else { c.moveTo(x, ys[i]); open = true; }
    });
    c.stroke();
    c.setLineDash([]);
    c.lineWidth = 1;
  }

  drawAxis(span, left) {
    const { c, right } = this.prepare(this.axis, left);
    const { found, unit, name } = timeSteps(span);
    c.fillStyle = this.color.muted;
    c.textAlign = "center";
    for (const ago of found) {
      const x = right - (ago / span) * (right - left);
      const words = ago ? `${ago / unit}` : "now";
      const half = c.measureText(words).width / 2;
      c.fillText(words, Math.min(x, right + 6 - half), 8);
    }
    c.fillText(name === "s" ? "seconds ago" : "minutes ago", (left + right) / 2, 25);
  }

  writeNames(panel, part, { all, sums }) {
    const newest = all.at(-1);
    if (newest === undefined) return;
    part.areas.forEach(({ line, number }, n) => {
      line.hidden = !all.some(({ areas }) => areas[n] > 0); // not any more, or not yet
      say(number, text(panel, newest.areas[n]));
    });
    if (part.free) say(part.free.number, text(panel, Math.max(0, panel.total - sums.at(-1))));
    part.lines.forEach(({ number }, n) => say(number, text(panel, newest.lines[n])));
  }

  describe(panel, part, { all, sums }) {
    const newest = all.at(-1);
    if (newest === undefined) return [];
    const rows = panel.areas.map(({ name }, n) => [name, newest.areas[n], Math.max(...all.map((a) => a.areas[n]))])
      .filter(([, , most]) => most > 0).reverse();
    if (part.free) rows.unshift(["free", Math.max(0, panel.total - sums.at(-1)), Math.max(0, panel.total - Math.max(...sums))]);
    rows.push(...panel.lines.map(({ name, low }, n) => {
      const known = all.map(({ lines }) => lines[n]).filter(Number.isFinite);
      return [name, newest.lines[n], low ? Math.min(...known) : Math.max(...known)];
    }));
    const said = rows.map(([name, now]) => `${name} ${text(panel, now)}`).join(", ");
    part.canvas.setAttribute("aria-label", `${panel.title}. Now: ${said}.`);
    return [[panel.title], ...rows.map(([name, now, most]) => [name, text(panel, now), text(panel, most)])];
  }

  writeTable(rows) {
    this.rows.replaceChildren(...rows.map((cells) => {
      const row = make("tr");
      cells.forEach((words, i) => {
        const cell = make(i ? "td" : "th", "", words);
        if (!i) cell.scope = cells.length === 1 ? "rowgroup" : "row";
        if (cells.length === 1) { cell.colSpan = 3; row.className = "tnb-plot-part"; }
        row.appendChild(cell);
      });
      return row;
    }));
  }

  writeWords(now, newest, row) {
    const { store } = this;
    if (this.events) {
      for (const [kind, line] of this.events.counts) {
        const count = store.counts[kind] ?? 0;
        const rate = kind === "infer" && this.rate ? `, ${Number(this.rate.now.toPrecision(3))}/s` : "";
        say(line, `${count.toLocaleString("en")}${rate}`);
      }
    }
    const silent = (now - store.heardAt) / 1000;
    let state = "";
    if (store.failed) state = store.failed;
    else if (store.askedAt !== null && now - store.askedAt > DEAF_MS) {
      state = "The kernel has not answered this page for some seconds: it is busy, or the page "
        + "must be loaded again.";
    }
    else if (this.model.get("paused")) state = "Paused. Samples are taken all the same.";
    else if (!store.times.length) state = "Waiting for the first sample.";
    else if (silent > SILENT_S) state = "No new samples for some seconds: the kernel is too busy, or gone.";
    say(this.state, state);
    const shm = store.panels.find((panel) => panel.warn_at !== null);
    const used = shm && row ? value(row, shm.within) : 0;
    let warning = "";
    if (shm && used >= shm.warn_at) {
      const part = Math.round((100 * used) / shm.total);
      const share = part ? `${part} %` : "less than 1 %";
      warning = `Warning: ${share} of /dev/shm is taken, `
        + `${humanBytes(Math.max(0, shm.total - used))} is free. At 100 % nothing new fits.`;
    }
    // Not at each change of a digit: a screen reader would not stop.
    if (Boolean(warning) !== Boolean(this.warning.textContent) || now - (this.warnedAt ?? 0) > WORDS_MS) {
      this.warnedAt = now;
      say(this.warning, warning);
    }
    const missing = Object.entries(store.missing).map(([what, why]) => `${what}: ${why}`);
    const sentence = missing.length ? `Not to be seen: ${missing.join("; ")}.` : "";
    say(this.missing, sentence.replace(/\.\.$/, "."));
  }
}

function pieces(times, gap) {
  const found = [];
  let start = 0;
  for (let i = 1; i <= times.length; i++) {
    if (i === times.length || times[i] - times[i - 1] > gap) {
      found.push([start, i]);
      start = i;
    }
  }
  return times.length ? found : [];
}

function mark(c, kind, x, y) {
  c.beginPath();
  if (kind === "switch") c.rect(x - 3, y - 3, 6, 6);
  else if (kind === "register") { c.moveTo(x, y - 4); c.lineTo(x + 4, y + 3); c.lineTo(x - 4, y + 3); }
  else if (kind === "unregister") { c.moveTo(x, y + 4); c.lineTo(x + 4, y - 3); c.lineTo(x - 4, y - 3); }
  else if (kind === "grow") { c.moveTo(x, y - 4); c.lineTo(x + 4, y); c.lineTo(x, y + 4); c.lineTo(x - 4, y); }
  else {
    for (const [a, b] of [[1, 1], [1, -1]]) {
      c.moveTo(x - 3.5 * a - b, y - 3.5 * b + a);
      c.lineTo(x - 3.5 * a + b, y - 3.5 * b - a);
      c.lineTo(x + 3.5 * a + b, y + 3.5 * b - a);
      c.lineTo(x + 3.5 * a - b, y + 3.5 * b + a);
      c.closePath();
    }
  }
  c.fill();
}

function download(name, type, data) {
  const address = URL.createObjectURL(new Blob([data], { type }));
  const link = make("a");
  link.href = address;
  link.download = name;
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export default () => {
  const store = makeStore();
  return {
    initialize({ model }) {
      store.taken = 0;
      store.tiers = model.get("tiers");
      const seed = model.get("history");
      if (seed) take(store, seed);
      model.on("msg:custom", (message, buffers) => {
        if (message.kind === "file") {
          const asked = [...store.listeners].some((view) => view.id === message.view);
          if (asked) download(message.name, message.type, buffers[0]);
        } else if (message.kind === "heard") {
          store.askedAt = null;
          store.answered = true;
        } else if (message.kind === "failed") {
          store.failed = message.text;
          setTimeout(() => { store.failed = ""; }, 15_000);
        } else {
          take(store, message);
        }
        for (const view of store.listeners) view.heard();
      });
    },
    render({ model, el }) {
      const view = new View(model, el, store);
      return () => view.stop();
    },
  };
};
