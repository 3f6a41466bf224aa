/* What every part of the page uses: the data, elements, sounds, and a thing shown as itself. Joined before map.js and
   searches.js into one script, inside one block. */
const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, things, media, maps, near, searches, groups } = data;
const hues = groups.length ? groups : nodes.map(n => n.name); // what colours tell apart
const hueOf = thing => groups.length ? thing.group : thing.node;
const onMap = near.length; // the first things are on the map, the others only in searches
const $ = id => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** el("p", {class: "x"}, "text", child): the only maker of elements; text is never parsed as HTML. */
function el(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}
const hue = n => `--hue: var(--c${n % 10})`;
const percent = x => `${(100 * x).toFixed(0)} %`;
const mark = (n, colour = n) => el("i", { class: `mark ${nodes[n].kind}`, style: hue(colour) });
const words = thing => thing.text ?? thing.label;
const PLAY = "M3 1.5v11l9.5-5.5z", PAUSE = "M3 1.5h3v11H3zM8.5 1.5h3v11h-3z";

/* ---- sounds: one player, many buttons ---- */
const player = $("player");
let playing = null; // number of the medium that plays
const buttons = new Map(); // medium -> its buttons on the page
const live = m => { // forget buttons that left the page
  const set = (buttons.get(m) ?? []).filter(b => b.isConnected);
  buttons.set(m, set);
  return set;
};
function paint(m) {
  const on = m === playing && !player.paused;
  for (const b of live(m)) {
    b.querySelector("path").setAttribute("d", on ? PAUSE : PLAY);
    b.style.setProperty("--played", m === playing && player.duration > 0 ? player.currentTime / player.duration : 0);
  }
  if (on) requestAnimationFrame(() => paint(m));
}
function halt() {
  const m = playing;
  player.pause();
  playing = null;
  if (m !== null) paint(m);
}
async function play(m) {
  if (m === playing && !player.paused) return halt();
  halt();
  playing = m;
  player.src = media[m];
  try {
    await player.play();
    paint(m);
  } catch (error) {
    if (error.name !== "NotSupportedError") return;
    for (const b of live(m)) { b.classList.add("failed"); b.title = "This browser cannot play this kind of sound"; }
  }
}
player.addEventListener("ended", halt);

const BARS = 28, waves = new Map();
/** Loudness of a sound in BARS steps, as the path of a waveform; decoded once. */
function wave(m) {
  if (!waves.has(m)) waves.set(m, (async () => {
    const bytes = Uint8Array.from(atob(media[m].split(",")[1]), c => c.charCodeAt(0));
    const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
    const x = sound.getChannelData(0), step = x.length / BARS;
    const peaks = Array.from({ length: BARS }, (_, i) => {
      let sum = 0;
      const from = Math.floor(i * step), to = Math.max(from + 1, Math.floor((i + 1) * step));
      for (let j = from; j < to; j++) sum += x[j] * x[j];
      return Math.sqrt(sum / (to - from));
    });
    const top = Math.max(...peaks, 1e-4);
    return peaks.map((p, i) => { const h = .6 + 9 * p / top; return `M${3 * i + 1.5} ${10 - h}v${2 * h}`; }).join("");
  })().catch(() => `M1.5 10H${3 * BARS - 1.5}`));
  return waves.get(m);
}
const watch = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    watch.unobserve(target);
    wave(+target.dataset.media).then(d => target.querySelectorAll("path").forEach(p => p.setAttribute("d", d)));
  }
}, { rootMargin: "200px" });

/** A thing as itself: picture, player or words. */
function show(i) {
  const thing = things[i], name = `${nodes[thing.node].name} ${thing.label}`;
  if (thing.kind === "image") return el("img", { src: media[thing.media], alt: name, title: name });
  if (thing.kind === "text") return el("span", { class: "words" }, words(thing));
  const line = () => el("svg", { viewBox: `0 0 ${3 * BARS} 20`, preserveAspectRatio: "none" }, el("path", { d: "" }));
  const span = el("span", { class: "wave", "data-media": thing.media }, line(), line());
  const button = el("button", { type: "button", class: "sound", style: hue(thing.node), "aria-label": `Play ${name}`, onclick: () => play(thing.media) },
    el("svg", { viewBox: "0 0 14 14" }, el("path", { d: PLAY })), span);
  buttons.set(thing.media, [...(buttons.get(thing.media) ?? []), button]);
  watch.observe(span);
  return button;
}
/** One found thing: [mark] thing name score; `right` is 1, 0, or undefined where nobody judges; `ahead` of the first right one. */
function row(i, score, right, ahead = false) {
  const thing = things[i];
  const verdict = right === undefined ? mark(thing.node)
    : el("span", { class: "verdict", role: "img", "aria-label": right ? "right" : "wrong" }, right ? "✓" : "✗");
  return el("div", { class: right ? "row right" : ahead ? "row ahead" : "row" }, verdict, el("div", { class: "thing" }, show(i)),
    el("span", { class: "name", title: thing.label }, words(thing) === thing.label && thing.kind === "text" ? "" : thing.label),
    el("span", { class: "score", title: "cosine similarity" }, score.toFixed(2)));
}
function segmented(box, names, press) {
  const all = names.map((name, i) => el("button", { type: "button", "aria-pressed": i === 0, onclick: () => {
    all.forEach((b, j) => b.setAttribute("aria-pressed", i === j));
    press(i);
  } }, name));
  box.append(...all);
}

/** Holds a thing on the map; map.js says how. */
let hold = () => {};
