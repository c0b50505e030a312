"use strict";

// Draws a journal of offloop. Times are nanoseconds since the recording began.
// What the journal tells goes into the page as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function shape(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title) {
    const text = document.createElementNS(SVG, "title");
    text.textContent = title;
    made.append(text);
  }
  return made;
}

function time(ns) {
  const [value, unit] = ns < 999.5e3 ? [ns / 1e3, "µs"] : ns < 999.5e6 ? [ns / 1e6, "ms"]
    : [ns / 1e9, "s"];
  return `${value >= 99.5 ? Math.round(value) : value.toPrecision(value < 0.995 ? 2 : 3)} ${unit}`;
}

function place(entry) {
  return entry ? `${entry.file}:${entry.line ?? "?"}` : "";
}

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

function sum(items, value) {
  return items.reduce((total, item) => total + value(item), 0);
}

// What was told of each stall last: at its end, or while it lasted.
function stallsOf(lines) {
  const last = new Map();
  for (const line of lines) if (line.kind === "stall") last.set(line.number, line);
  return [...last.values()];
}

function understand({ step, damaged, lines }) {
  const of = (...kinds) => lines.filter((line) => kinds.includes(line.kind));
  const end = lines.reduce((latest, line) => Math.max(latest, line.at || 0), 0);
  return {
    step, damaged, about: lines[0], end, stalls: stallsOf(lines),
    isWhole: of("end").length > 0,
    missed: sum(of("missed"), (line) => line.records),
    loads: of("load"), slices: of("slice"), calls: of("call"), threads: of("thread-call"),
    collections: of("collection"), crashes: of("worker-crash"), starts: of("worker-start"),
    failures: of("failure", "worker-start-failure"), lag: of("lag").pop(),
  };
}

function tile(value, text, mood) {
  return element("div", { class: `tile ${mood || ""}` }, element("b", {}, value),
    element("span", { class: "dim" }, text));
}

function header(seen) {
  const { about } = seen;
  const began = new Date(about.began * 1000).toLocaleString();
  const notes = [];
  if (!seen.isWhole) notes.push("The program ended without a word: this is what it had told.");
  if (seen.damaged) notes.push(`${seen.damaged} damaged lines are left out.`);
  if (seen.missed) notes.push(`${seen.missed} records came faster than they were written.`);
  if (seen.step > 1) notes.push(`It is long: one of ${seen.step} calls and slices is shown.`);
  return element("header", {}, element("h1", {}, about.program || "offloop report"),
    element("p", { class: "dim" }, `${began} · ran ${time(seen.end)} · process ${about.pid} · `
      + `Python ${about.python} · offloop ${about.offloop}`),
    ...notes.map((note) => element("p", {}, note)));
}

function summary(seen) {
  const blocked = sum(seen.stalls, (stall) => stall.lasted);
  const longest = Math.max(0, ...seen.stalls.map((stall) => stall.lasted));
  const share = seen.end ? (blocked / seen.end) * 100 : 0;
  const tiles = element("section", { class: "tiles" });
  tiles.append(tile(time(blocked), `blocked, ${share.toFixed(1)} % of the time`,
    blocked ? "bad" : "good"));
  tiles.append(tile(String(seen.stalls.length), "stalls", seen.stalls.length ? "bad" : "good"));
  if (longest) tiles.append(tile(time(longest), "the longest stall", "bad"));
  if (seen.lag && seen.lag.count) {
    tiles.append(tile(time(seen.lag.p99), "lag of the loop, 99th percentile"));
    const busy = seen.lag.running ? (seen.lag.busy / seen.lag.running) * 100 : 0;
    tiles.append(tile(`${busy.toFixed(0)} %`, "of its time the loop was busy"));
  }
  const calls = (seen.calls.length + seen.threads.length) * seen.step;
  if (calls) tiles.append(tile(`${seen.step > 1 ? "≈ " : ""}${calls}`, "calls taken off the loop"));
  if (seen.crashes.length) tiles.append(tile(String(seen.crashes.length), "workers crashed", "bad"));
  return tiles;
}

function culprits(seen) {
  const groups = grouped(seen.stalls, (stall) => place(stall.culprit) || stall.cause);
  const ranked = [...groups.entries()].map(([where, stalls]) => ({
    where, stalls, total: sum(stalls, (stall) => stall.lasted), last: stalls[stalls.length - 1],
  })).sort((one, other) => other.total - one.total);
  const worst = ranked.length ? ranked[0].total : 1;
  return ranked.slice(0, 20).map(({ where, stalls, total, last }) => {
    const longest = Math.max(...stalls.map((stall) => stall.lasted));
    const requests = [...new Set(stalls.map((stall) => stall.request).filter(Boolean))];
    const name = last.culprit ? last.culprit.function : "no code of the program";
    const bar = element("i", {});
    bar.style.width = `${(total / worst) * 100}%`;
    return element("div", { class: "card culprit" },
      element("div", {}, element("b", {}, name), " ", element("span", { class: "dim" }, where),
        element("p", { class: "dim" }, `cause: ${last.cause}`
          + (requests.length ? ` · ${requests.slice(0, 3).join(", ")}` : ""))),
      element("div", { class: "sum" }, element("b", {}, time(total)),
        element("p", { class: "dim" }, `${stalls.length} × · longest ${time(longest)}`)),
      last.source ? element("pre", { class: "source" }, last.source) : null,
      last.cure ? element("pre", { class: "cure" }, last.cure) : null,
      element("div", { class: "bar" }, bar));
  });
}

// Rows of a timeline: a name, and spans of a class with a title; or values between 0 and 1.
function rowsOf(seen) {
  const rows = [];
  for (const [number, loads] of grouped(seen.loads, (load) => load.loop)) {
    const values = loads.map((load) => ({
      begin: load.begin, end: load.at, value: load.busy / Math.max(1, load.at - load.begin),
      longest: load.longest,
    }));
    rows.push({ name: `loop ${number}`, values, spans: [] });
  }
  const spans = (items, kind, title) => items.map((item) => ({
    begin: item.begin, end: item.end, kind, title: title(item),
  }));
  const stalled = seen.stalls.map((stall) => ({
    begin: stall.begin, end: stall.begin + stall.lasted, kind: "blocked",
    title: `${time(stall.lasted)}: ${stall.culprit ? stall.culprit.function : stall.cause} `
      + place(stall.culprit),
  }));
  if (seen.slices.length || stalled.length) {
    const slices = spans(seen.slices, "busy", (slice) =>
      `${slice.name || "callbacks"}: ${time(slice.end - slice.begin)}`);
    rows.push({ name: "long callbacks", spans: [...slices, ...stalled] });
  }
  const ran = seen.calls.filter((call) => call.begin !== undefined);
  for (const [worker, calls] of [...grouped(ran, (call) => call.worker)].slice(0, 16)) {
    rows.push({ name: `worker ${worker}`, spans: calls.map((call) => ({
      begin: call.begin, end: call.end ?? call.at,
      kind: call.outcome === "returned" ? "work" : call.outcome === "lost" ? "blocked" : "wait",
      title: `${call.function || "call"}: ${time((call.end ?? call.at) - call.begin)}, `
        + `${call.outcome}, waited ${time(Math.max(0, call.begin - call.submitted))}`,
    })) });
  }
  for (const [thread, calls] of [...grouped(seen.threads, (call) => call.thread)].slice(0, 8)) {
    rows.push({ name: `thread ${thread}`, spans: spans(calls, "work", (call) =>
      `${call.function}: ${time(call.end - call.begin)}`) });
  }
  if (seen.collections.length) {
    rows.push({ name: "garbage", spans: spans(seen.collections, "wait", (one) =>
      `generation ${one.generation}: ${time(one.end - one.begin)}, ${one.collected} objects`) });
  }
  return rows;
}

// The share of each point's time in which a loop was busy: many stretches may fall on one point.
// Of a journal that is thinned out the stretches that are left stand for the rest.
function pointsOf(values, scale, count, isThinned) {
  const first = scale(0);
  const points = Array.from({ length: Math.max(1, count) },
    () => ({ busy: 0, covered: 0, longest: 0 }));
  for (const { begin, end, value, longest } of values) {
    const left = Math.max(0, scale(begin) - first);
    const right = Math.min(points.length, scale(end) - first);
    for (let index = Math.floor(left); index < right; index += 1) {
      const width = Math.min(right, index + 1) - Math.max(left, index);
      points[index].busy += value * width;
      points[index].covered += width;
      points[index].longest = Math.max(points[index].longest, longest);
    }
  }
  return points.map(({ busy, covered, longest }) => ({
    longest, share: Math.min(1, isThinned && covered ? busy / covered : busy),
  }));
}

// Points of the same height beside each other are one shape.
function busyShapes(points, left, top, tall) {
  const shapes = [];
  const high = ({ share }) => (share > 0 ? Math.max(0.5, Math.round(share * tall * 4) / 4) : 0);
  for (let index = 0, next; index < points.length; index = next) {
    next = index + 1;
    while (next < points.length && high(points[next]) === high(points[index])) next += 1;
    if (!high(points[index])) continue;
    const longest = Math.max(...points.slice(index, next).map((point) => point.longest));
    shapes.push(shape("rect", { class: "busy", x: left + index, y: top + tall - high(points[index]),
      width: next - index, height: high(points[index]) },
    `busy ${(points[index].share * 100).toFixed(0)} %, longest ${time(longest)}`));
  }
  return shapes;
}

// Spans that fall on the same point are drawn as one, and blocked ones over all.
function merged(spans, scale) {
  const order = { work: 0, busy: 0, wait: 1, blocked: 2 };
  const drawn = [];
  const sorted = [...spans].sort((one, other) =>
    order[one.kind] - order[other.kind] || one.begin - other.begin);
  for (const span of sorted) {
    const left = scale(span.begin);
    const right = Math.max(left + 1.2, scale(span.end));
    const last = drawn[drawn.length - 1];
    if (last && last.kind === span.kind && left <= last.right + 0.3 && right - left < 2) {
      last.right = Math.max(last.right, right);
      last.count += 1;
    } else {
      drawn.push({ left, right, kind: span.kind, title: span.title, count: 1 });
    }
  }
  return drawn;
}

function ticksOf(end) {
  const raw = end / 6;
  const size = 10 ** Math.floor(Math.log10(Math.max(1, raw)));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= raw);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step);
}

function timeline(seen, rows, width) {
  const names = width < 600 ? 92 : 120;
  const tall = 26;
  const height = rows.length * (tall + 6) + 22;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
    "aria-label": "timeline of loops, workers and garbage collections" });
  const scale = (ns) => names + (Math.max(0, ns) / Math.max(1, seen.end)) * (width - names - 8);
  for (const tick of ticksOf(seen.end)) {
    const x = scale(tick);
    svg.append(shape("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height - 18 }));
    const text = shape("text", { x, y: height - 4, "text-anchor": x > width - 30 ? "end" : "middle" });
    text.textContent = tick ? time(tick) : "0";
    svg.append(text);
  }
  rows.forEach((row, index) => {
    const top = index * (tall + 6);
    const text = shape("text", { class: "name", x: 0, y: top + tall / 2 + 4 });
    text.textContent = row.name;
    svg.append(text, shape("rect", { class: "track", x: names, y: top, width: width - names - 8,
      height: tall, rx: 3 }));
    const points = pointsOf(row.values || [], scale, Math.round(width - names - 8), seen.step > 1);
    svg.append(...busyShapes(points, names, top, tall));
    for (const { left, right, kind, title, count } of merged(row.spans, scale)) {
      svg.append(shape("rect", { class: kind, x: left, y: top + 3, width: right - left,
        height: tall - 6, rx: right - left > 5 ? 2 : 0 },
      count > 1 ? `${count} of these, the first: ${title}` : title));
    }
  });
  return svg;
}

function legend() {
  const entry = (color, text) => {
    const box = element("i", {});
    box.style.background = `var(--${color})`;
    return element("span", {}, box, text);
  };
  return element("p", { class: "legend dim" }, entry("busy", "loop busy"),
    entry("blocked", "blocked, lost"), entry("work", "call"), entry("wait", "not returned, garbage"));
}

function histogram(seen, width) {
  // Buckets are joined to octaves.
  const octaves = new Map();
  for (const [longest, count] of seen.lag.buckets) {
    const octave = Math.max(4, Math.ceil(Math.log2(Math.max(1, longest / 1000))));
    octaves.set(octave, (octaves.get(octave) || 0) + count);
  }
  const first = Math.min(...octaves.keys());
  const last = Math.max(...octaves.keys());
  const most = Math.max(...octaves.values());
  const height = 150;
  const each = (width - 10) / (last - first + 1);
  const threshold = (seen.about.threshold || 0.05) * 1e6;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
    "aria-label": "histogram of the loops' lag" });
  for (let octave = first; octave <= last; octave += 1) {
    const count = octaves.get(octave) || 0;
    const high = count ? Math.max(2, (Math.log10(count + 1) / Math.log10(most + 1)) * 112) : 0;
    const left = (octave - first) * each + 5;
    const kind = 2 ** (octave - 1) >= threshold ? "blocked" : "busy";
    svg.append(shape("rect", { class: kind, x: left + 1, y: 128 - high,
      width: Math.max(1, each - 2), height: high, rx: 2 },
    `up to ${time(2 ** octave * 1000)}: ${count}`));
    if (each > 44 || (octave - first) % 3 === 0) {
      const [x, anchor] = octave === first ? [left, "start"]
        : octave === last ? [left + each, "end"] : [left + each / 2, "middle"];
      const text = shape("text", { x, y: 144, "text-anchor": anchor });
      text.textContent = time(2 ** octave * 1000);
      svg.append(text);
    }
  }
  return svg;
}

function table(names, rows) {
  const cells = (kind, row) => element("tr", {}, ...row.map((value, index) =>
    element(kind, { class: index ? "n" : "name" }, value)));
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, cells("th", names)),
    element("tbody", {}, ...rows.map((row) => cells("td", row)))));
}

function functions(seen) {
  const all = [...seen.calls.map((call) => ({ ...call, where: "process" })),
    ...seen.threads.map((call) => ({ ...call, where: "thread" }))];
  const rows = [...grouped(all, (call) => `${call.function || "(call)"}|${call.where}`)];
  return rows.map(([name, calls]) => {
    const ran = calls.filter((call) => call.begin !== undefined);
    const lengths = ran.map((call) => (call.end ?? call.at) - call.begin);
    const waited = sum(ran, (call) => Math.max(0, call.begin - call.submitted));
    const total = sum(lengths, (length) => length);
    const bad = calls.filter((call) => call.raised || !["returned", undefined]
      .includes(call.outcome)).length;
    return { name, calls, total, ran, waited, bad, longest: Math.max(0, ...lengths) };
  }).sort((one, other) => other.total - one.total).slice(0, 20).map((one) => {
    const [name, where] = one.name.split("|");
    const mean = (value) => (one.ran.length ? time(value / one.ran.length) : "–");
    return [name, where, String(one.calls.length * seen.step), mean(one.total),
      one.ran.length ? time(one.longest) : "–", mean(one.waited), one.bad ? String(one.bad) : ""];
  });
}

function stackOf(stall) {
  return [...stall.native.map((name) => `C  ${name}`),
    ...stall.stack.map((entry) => `${entry.function}  ${place(entry)}`)].join("\n");
}

function stallList(seen) {
  const longest = [...seen.stalls].sort((one, other) => other.lasted - one.lasted).slice(0, 30);
  return longest.map((stall) => element("details", {}, element("summary", {},
    element("b", {}, time(stall.lasted)), ` at ${time(stall.begin)}: `,
    stall.culprit ? `${stall.culprit.function} ` : `${stall.cause} `,
    element("span", { class: "dim" }, place(stall.culprit)
      + (stall.request ? ` · ${stall.request}` : "") + (stall.task ? ` · ${stall.task}` : ""))),
  element("pre", {}, stackOf(stall) || "(no stack)")));
}

function draw(data) {
  const seen = understand(data);
  const page = document.getElementById("page");
  const section = (title, ...children) => page.append(element("h2", {}, title), ...children);
  document.title = `${seen.about.program}: offloop report`;
  page.append(header(seen), summary(seen));
  const worst = culprits(seen);
  section("What blocked the loop", ...(worst.length ? worst : [element("p", {},
    seen.about.threshold ? "Nothing did." : "The watch was off.")]));
  const drawn = [];
  const resized = (title, make, more) => {
    const card = element("div", { class: "card" });
    section(title, card);
    drawn.push(() => card.replaceChildren(make(Math.max(260, card.clientWidth - 32)), more || ""));
  };
  const rows = rowsOf(seen);
  if (rows.length) resized("Timeline", (width) => timeline(seen, rows, width), legend());
  if (seen.lag && seen.lag.buckets.length) {
    resized("Lag of the loop", (width) => histogram(seen, width), element("p", { class: "dim" },
      `How long what became ready may have waited. Counts on a logarithmic scale; half of them up `
      + `to ${time(seen.lag.p50)}, at most ${time(seen.lag.max)}.`));
  }
  const called = functions(seen);
  if (called.length) {
    section("Calls", element("div", { class: "card" }, table(
      ["function", "lane", "calls", "mean", "longest", "mean wait", "not returned"], called)));
  }
  const ended = [...seen.crashes.map((crash) => [`worker ${crash.pid}`, crash.status || "lost",
    crash.in_call ? "in a call" : "idle", time(crash.at), crash.stderr.trim().slice(-400)]),
  ...seen.failures.map((failure) => ["failure", failure.reason || "", "", time(failure.at), ""])];
  if (ended.length) {
    section("Crashes", element("div", { class: "card" },
      table(["", "how", "when", "at", "last words"], ended)));
  }
  if (seen.stalls.length) {
    section("The longest stalls", element("div", { class: "card" }, ...stallList(seen)));
  }
  const redraw = () => drawn.forEach((each) => each());
  redraw();
  window.addEventListener("resize", redraw);
}
