/* The charts: plotly, unpacked and run once; colours are the page's own, by day and by night. */
async function drawCharts() {
  const all = [...document.querySelectorAll("[data-chart]")];
  if (!all.length) return;
  if (!window.DecompressionStream) {
    for (const box of all) box.textContent = "This chart needs a browser of 2023 or later.";
    return;
  }
  const packed = Uint8Array.from(atob($("library").textContent), c => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(el("script", {}, await new Response(unpacked).text()));
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  function draw(box) {
    const [part, number] = box.dataset.chart.split(":"), chart = data.charts[part][+number];
    const line = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
    const layout = {
      ...chart.layout, xaxis: { ...line, ...chart.layout.xaxis }, yaxis: { ...line, ...chart.layout.yaxis },
      colorway: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(n => colour(`c${n}`)),
      font: { family: "system-ui, sans-serif", size: 12, color: colour("soft") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 44, r: 12, t: 8, b: 40 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: chart.traces[0].type === "scatter" ? "x unified" : "closest",
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    };
    const traces = chart.traces.map(t => t.type === "heatmap"
      ? { ...t, colorscale: [[0, colour("wash")], [1, colour("c0")]] } : { ...t, line: { width: 1.8 } });
    return Plotly.react(box, traces, layout, { displayModeBar: false, responsive: true });
  }
  const paint = () => Promise.all(all.map(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  await paint();
  document.documentElement.dataset.charts = "drawn";
}
drawCharts();
