/* The searches: a card each, what was asked and what was found. */
function drawSearches(list, place) {
  const ways = new Map(); // "speech → scans" -> its searches
  const cards = list.map(({ query, found }) => {
    const thing = things[query];
    const to = [...new Set(found.map(([i]) => nodes[things[i].node].name))].join(", ");
    const way = `${nodes[thing.node].name} → ${to}`;
    const same = thing.kind === "text" && words(thing) === thing.label;
    const card = el("article", { class: "card", "aria-label": `Search ${way} for ${thing.label}` },
      el("div", { class: "kind" }, mark(thing.node), [way, thing.split].filter(Boolean).join(" · ")),
      el("div", { class: "query" }, el("div", {}, show(query)), same ? "" : el("span", { class: "label" }, thing.label)),
      ...found.map(([i, score, right], rank) => row(i, score, right, !found.slice(0, rank).some(f => f[2]))));
    if (query < onMap) card.append(el("button", { type: "button", class: "onmap", onclick: () => {
      hold(query);
      $("map").scrollIntoView({ block: "center", behavior: still.matches ? "auto" : "smooth" });
    } }, "Show on the map"));
    if (!ways.has(way)) ways.set(way, []);
    ways.get(way).push({ card, hit: found.length > 0 && found[0][2] });
    return card;
  });
  $(`${place}-cards`).append(...cards);
  const names = [...ways.keys()], groups = [[...ways.values()].flat(), ...ways.values()];
  const choose = i => {
    const group = groups[i];
    for (const { card } of groups[0]) card.hidden = true;
    for (const { card } of group) card.hidden = false;
    if (place === "searches") $("searches-tally").textContent = `In ${group.filter(s => s.hit).length} of these ${group.length} the first thing found is right.`;
  };
  if (names.length > 1) segmented($(`${place}-directions`), ["all", ...names], choose);
  choose(0);
}
if (searches.length) drawSearches(searches, "searches");
if (data.failures?.length) drawSearches(data.failures, "failures");
