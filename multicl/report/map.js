/* The map: a plane of things, drawn on a canvas, to point at, zoom and walk through. */
function drawMap() {
  const canvas = $("map"), ink = canvas.getContext("2d"), panel = $("panel");
  const hidden = new Set(), at = new Float32Array(2 * onMap); // positions on the screen now
  const pictures = things.slice(0, onMap).map(t => t.kind === "image" ? Object.assign(new Image(), { src: media[t.media], onload: () => redraw() }) : null);
  const alike = new Map(); // label -> things
  for (let i = 0; i < onMap; i++) alike.set(things[i].label, [...(alike.get(things[i].label) ?? []), i]);
  let width = 0, height = 0, zoom = 1, panX = 0, panY = 0; // zoom about the middle, then pan in pixels
  let view = 0, before = 0, blend = 1; // blend runs from 0 to 1 as a view takes over from the one before
  let over = null, held = null, shown = null, colours = {}, queued = false;

  const fits = maps.map(({ at: p }) => {
    let x = 1e-6, y = 1e-6;
    for (let i = 0; i < p.length; i += 2) { x = Math.max(x, Math.abs(p[i])); y = Math.max(y, Math.abs(p[i + 1])); }
    return [x, y];
  });
  const redraw = () => { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; place(); draw(); }); } };

  function place() {
    const scales = fits.map(([x, y]) => Math.min((width / 2 - 34) / x, (height / 2 - 34) / y));
    for (let i = 0; i < 2 * onMap; i++) {
      const flat = (1 - blend) * maps[before].at[i] * scales[before] + blend * maps[view].at[i] * scales[view];
      at[i] = i % 2 ? height / 2 + panY - zoom * flat : width / 2 + panX + zoom * flat;
    }
  }
  function size(i) { // of a picture on the map
    const p = pictures[i], h = Math.min(64, 11 * Math.sqrt(zoom) * Math.min(1, Math.max(.65, width / 760)));
    const w = p.naturalHeight ? h * p.naturalWidth / p.naturalHeight : h;
    return w > 4 * h ? [4 * h, 4 * h * h / w] : [w, h];
  }
  const visible = i => !hidden.has(hueOf(things[i]));
  function draw() {
    const ratio = devicePixelRatio || 1;
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.clearRect(0, 0, width, height);
    ink.imageSmoothingEnabled = false;
    const family = shown === null ? [] : alike.get(things[shown].label).filter(visible);
    const related = new Set(family), taken = []; // boxes of pictures and words, where no word may go
    for (let i = 0; i < onMap; i++) if (things[i].kind === "image" && visible(i)) {
      const [w, h] = size(i), x = at[2 * i], y = at[2 * i + 1];
      taken.push([x - w / 2, y - h / 2, x + w / 2, y + h / 2]);
    }
    if (shown !== null && visible(shown)) {
      ink.strokeStyle = colours.soft;
      ink.lineWidth = 1.2;
      ink.globalAlpha = family.length > 30 ? .25 : .7;
      if (family.length <= 60) for (const j of family) {
        ink.beginPath(); ink.moveTo(at[2 * shown], at[2 * shown + 1]); ink.lineTo(at[2 * j], at[2 * j + 1]); ink.stroke();
      }
    }
    const one = (i, lit) => {
      const x = at[2 * i], y = at[2 * i + 1], t = things[i], c = colours[hueOf(t) % 10], big = i === shown ? 1.7 : lit ? 1.35 : 1;
      if (x < -60 || y < -40 || x > width + 60 || y > height + 40) return;
      ink.globalAlpha = family.length > 1 && !lit ? .3 : 1;
      ink.fillStyle = c;
      ink.beginPath();
      if (t.kind === "image" && pictures[i].naturalWidth) {
        const [w, h] = size(i).map(v => v * big);
        ink.drawImage(pictures[i], x - w / 2, y - h / 2, w, h);
        ink.strokeStyle = c;
        ink.lineWidth = lit ? 2.2 : 1.2;
        ink.roundRect(x - w / 2 - 1, y - h / 2 - 1, w + 2, h + 2, 2);
        ink.stroke();
      } else if (t.kind === "text") {
        const r = 3.6 * big;
        ink.moveTo(x, y - r); ink.lineTo(x + r, y); ink.lineTo(x, y + r); ink.lineTo(x - r, y); ink.fill();
        write(i, x + r + 3, y, lit);
      } else {
        ink.arc(x, y, Math.min(9, 3.4 * Math.sqrt(zoom)) * big, 0, 7);
        ink.fill();
        ink.strokeStyle = colours.card;
        ink.lineWidth = 1;
        ink.stroke();
      }
    };
    function write(i, x, y, lit) {
      const text = words(things[i]).slice(0, 40), w = ink.measureText(text).width;
      if (lit && x + w > width - 6) x -= w + 20; // to the other side of its mark
      const box = [x - 2, y - 7, x + w + 4, y + 7];
      if (!lit && (box[2] > width || taken.some(b => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3]))) return;
      taken.push(box);
      if (lit) { ink.fillStyle = colours.card; ink.globalAlpha = .85; ink.fillRect(box[0], box[1], w + 6, 14); ink.globalAlpha = 1; }
      ink.fillStyle = lit ? colours.ink : colours.soft;
      ink.fillText(text, x, y + .5);
    }
    ink.font = "11px system-ui, sans-serif";
    ink.textBaseline = "middle";
    for (const kind of ["text", "audio", "image"]) for (let i = 0; i < onMap; i++)
      if (things[i].kind === kind && visible(i) && !related.has(i)) one(i, false);
    for (const i of family) if (i !== shown) one(i, true);
    if (shown !== null && visible(shown)) {
      one(shown, true);
      if (things[shown].kind !== "image") {
        ink.globalAlpha = 1;
        ink.strokeStyle = colours.ink;
        ink.lineWidth = 1.5;
        ink.beginPath();
        ink.arc(at[2 * shown], at[2 * shown + 1], 15, 0, 7);
        ink.stroke();
      }
    }
  }

  function look(i) { // put a thing into the panel
    if (i === shown) return;
    shown = i;
    const thing = things[i];
    const where = [nodes[thing.node].name, thing.split].filter(Boolean).join(" · ");
    const big = el("div", { class: "big" }, show(i));
    panel.replaceChildren(el("h3", {}, mark(thing.node, hueOf(thing)), where), big);
    if (words(thing) !== thing.label || thing.kind !== "text") panel.append(el("p", { class: "label" }, thing.label));
    if (thing.credit) panel.append(el("p", { class: "credit" }, thing.credit));
    if (near[i].length) panel.append(el("h4", {}, "Nearest in the whole space"), ...near[i].map(([j, score]) => row(j, score)));
    $("said").textContent = `${where}: ${thing.label}`;
    redraw();
  }
  const rest = () => { over = null; if (held !== null) look(held); };
  hold = i => { hidden.delete(hueOf(things[i])); legend(); held = i; look(i); };

  function find(event) { // the nearest visible thing under the pointer
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = (event.pointerType === "mouse" ? 16 : 26) ** 2;
    for (let i = 0; i < onMap; i++) if (visible(i)) {
      const [w, h] = things[i].kind === "image" ? size(i) : [0, 0];
      const dx = Math.max(0, Math.abs(at[2 * i] - x) - w / 2), dy = Math.max(0, Math.abs(at[2 * i + 1] - y) - h / 2);
      const d = dx * dx + dy * dy + .01 * Math.hypot(at[2 * i] - x, at[2 * i + 1] - y);
      if (d < least) { least = d; best = i; }
    }
    return best;
  }
  function press(i) {
    held = i;
    if (i === null) return;
    look(i);
    if (things[i].kind === "audio") play(things[i].media);
  }
  function scale(factor, x = at[2 * shown], y = at[2 * shown + 1]) { // keep what is at (x, y) where it is
    const next = Math.min(30, Math.max(1, zoom * factor)), k = next / zoom;
    panX = (x - width / 2) * (1 - k) + panX * k;
    panY = (y - height / 2) * (1 - k) + panY * k;
    zoom = next;
    if (zoom === 1) panX = panY = 0;
    canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";
    redraw();
  }

  const down = new Map(); // pointers that are down
  let moved = 0;
  canvas.addEventListener("pointerdown", e => { down.set(e.pointerId, e); moved = 0; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", e => {
    const before = down.get(e.pointerId);
    if (!before) {
      over = find(e);
      canvas.style.cursor = over === null ? (zoom > 1 ? "grab" : "default") : "pointer";
      return over === null ? rest() : look(over);
    }
    moved += Math.hypot(e.clientX - before.clientX, e.clientY - before.clientY);
    const other = [...down].find(([id]) => id !== e.pointerId)?.[1];
    if (other) {
      const box = canvas.getBoundingClientRect(), span = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      scale(span(e) / Math.max(1, span(before)), (e.clientX + other.clientX) / 2 - box.left, (e.clientY + other.clientY) / 2 - box.top);
    } else if (zoom > 1) { panX += e.clientX - before.clientX; panY += e.clientY - before.clientY; redraw(); }
    down.set(e.pointerId, e);
  });
  canvas.addEventListener("pointerup", e => { if (down.delete(e.pointerId) && moved < 6) press(find(e)); });
  canvas.addEventListener("pointercancel", e => down.delete(e.pointerId));
  canvas.addEventListener("pointerleave", rest);
  canvas.addEventListener("wheel", e => { // plain scrolling stays the page's
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    scale(Math.exp(-e.deltaY / 200), e.offsetX, e.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", e => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (way && shown !== null) {
      let best = null, least = Infinity;
      for (let i = 0; i < onMap; i++) if (i !== shown && visible(i)) {
        const dx = at[2 * i] - at[2 * shown], dy = at[2 * i + 1] - at[2 * shown + 1];
        const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1] + dy * way[0]);
        if (ahead > 0 && aside <= 2 * ahead && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = i; }
      }
      if (best !== null) { held = best; look(best); }
    } else if ((e.key === "Enter" || e.key === " ") && shown !== null) press(shown);
    else if (e.key === "+" || e.key === "=") scale(1.5);
    else if (e.key === "-") scale(1 / 1.5);
    else if (e.key === "0") scale(0);
    else if (e.key === "Escape") held = null;
    else return;
    e.preventDefault();
  });
  $("zoom-in").addEventListener("click", () => scale(1.6));
  $("zoom-out").addEventListener("click", () => scale(1 / 1.6));
  $("zoom-fit").addEventListener("click", () => scale(0));

  function caption() {
    const share = maps[view].share;
    $("share").textContent = share === null ? "neighbours stay together; distances and directions mean nothing"
      : `two of its directions, ${percent(share)} of the variance`;
  }
  if (maps.length > 1) segmented($("views"), maps.map(m => m.name), i => {
    before = view;
    view = i;
    blend = 0;
    caption();
    const start = performance.now(), span = still.matches ? 1 : 700;
    requestAnimationFrame(function tick(now) {
      const t = Math.min(1, Math.max(0, (now - start) / span)), eased = t * t * (3 - 2 * t);
      if (view !== i) return;
      blend = eased;
      redraw();
      if (t < 1) requestAnimationFrame(tick);
    });
  });
  function legend() {
    $("legend").replaceChildren(...hues.flatMap((name, n) => {
      const count = things.slice(0, onMap).filter(t => hueOf(t) === n).length;
      return count ? [el("button", { type: "button", "aria-pressed": !hidden.has(n), title: "Show or hide", onclick: () => {
        if (!hidden.delete(n)) hidden.add(n);
        legend();
        $("legend").children[[...$("legend").children].findIndex(b => b.textContent.startsWith(name))].focus();
        redraw();
      } }, mark(groups.length ? things[0].node : n, n), el("b", {}, name), el("small", {}, count))] : [];
    }));
  }
  function theme() {
    const style = getComputedStyle(document.documentElement);
    colours = Object.fromEntries([...Array(10).keys()].map(n => [n, style.getPropertyValue(`--c${n}`).trim()]));
    for (const name of ["ink", "soft", "card"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
    redraw();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
  new ResizeObserver(() => {
    const ratio = devicePixelRatio || 1;
    ({ clientWidth: width, clientHeight: height } = canvas);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    redraw();
  }).observe(canvas);
  legend();
  theme();
  caption();
  look(searches.length && searches[0].query < onMap ? searches[0].query : 0);
}
if (onMap) drawMap();
