"use strict";
// Charts name colours as the page's variables; they are drawn anew when the page turns dark or light, and light and narrow for paper.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const still = { ...config, displayModeBar: false };
  const root = document.documentElement;

  function coloured(value, key, style) {
    if (typeof value === "string") {
      return /color(scale)?$/.test(key) && value.startsWith("var(") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((part) => coloured(part, key, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, coloured(part, name, style)]));
  }

  function draw() {
    const style = getComputedStyle(root);
    for (const [id, chart] of Object.entries(charts)) {
      Plotly.react(id, coloured(chart.data, "", style), coloured(chart.layout, "", style), chart.layout.dragmode ? config : still);
    }
  }

  function paper(printing) {
    root.toggleAttribute("data-print", printing);
    draw();
    for (const id of Object.keys(charts)) Plotly.Plots.resize(id);
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
})();
