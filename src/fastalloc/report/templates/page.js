"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let views = [];

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: {
        domainColor: of("--line"), gridColor: of("--grid"), tickColor: of("--line"),
        labelColor: of("--soft"), titleColor: of("--soft"), labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400,
      },
      legend: { labelColor: of("--soft"), labelFontSize: 11 },
      axisX: { grid: false },
      axisY: { domain: false, ticks: false, minExtent: 48, maxExtent: 48 },
      rule: { color: of("--soft") },
    };
  }

  async function draw() {
    views.forEach((view) => view.finalize());
    views = [];
    for (const box of document.querySelectorAll(".chart")) {
      const spec = JSON.parse(box.nextElementSibling.textContent);
      const made = await vegaEmbed(box, spec, { actions: false, renderer: "svg", config: theme() });
      views.push(made);
    }
    document.documentElement.dataset.drawn = String(views.length);
  }

  dark.addEventListener("change", draw);
  draw();
})();
