"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const held = document.getElementById("series");
  const series = held ? JSON.parse(held.textContent) : [];
  let views = [];

  function rows(columns) {
    const names = Object.keys(columns);
    return columns.time_s.map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  }

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
      if (box.dataset.lane) spec.datasets = { ...spec.datasets, series: rows(series[box.dataset.lane]) };
      const made = await vegaEmbed(box, spec, { actions: false, renderer: "svg", config: theme() });
      views.push(made);
      box.querySelector("svg")?.setAttribute("aria-hidden", "true");
    }
    document.documentElement.dataset.drawn = String(views.length);
  }

  function element(kind, kindOf, text) {
    const made = document.createElement(kind);
    made.className = kindOf;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // A group of bars a lane; what is returned shows an instant.
  function instants(box) {
    const groups = JSON.parse(document.getElementById("groups").textContent);
    const lane = Number(box.dataset.lane);
    const columns = series[lane];
    const setters = [];
    for (const group of groups) {
      const all = Math.max(1, ...group.rows.flatMap((row) => series.flatMap((one) => one[row.column])));
      const part = element("div", "bars");
      part.append(element("h4", "", group.title));
      for (const row of group.rows) {
        const share = (value) => Math.min(1, Math.max(0, value) / (row.full ?? all));
        const width = (value) => 100 * (group.root && !row.full ? Math.sqrt(share(value)) : share(value));
        const line = element("div", "line");
        const track = element("span", "track");
        const fill = element("span", "fill");
        const value = element("span", "value");
        fill.style.background = row.colour;
        track.append(fill);
        for (const mark of row.marks ? row.marks[lane] : []) {
          const rule = element("span", "rule");
          rule.style.left = `${width(mark)}%`;
          track.append(rule);
        }
        line.append(element("span", "name", row.label), track, value);
        part.append(line);
        setters.push((i) => {
          const now = columns[row.column][i];
          fill.style.width = `${width(now)}%`;
          value.textContent = now.toLocaleString("en");
        });
      }
      box.querySelector(".groups").append(part);
    }
    const told = box.querySelector(".told");
    return (i) => {
      setters.forEach((set) => set(i));
      const of = (name) => columns[name][i];
      const still = of("commands") === 0 && of("writeback") > 0;
      told.textContent = still
        ? `No command in flight, ${of("writeback").toLocaleString("en")} pages under writeback, ` +
          `${of("bio_waiters")} tasks wait for a bio, ${of("running")} run.`
        : of("writeback") > 0
          ? `${of("commands")} in flight: the queue moves.`
          : "Nothing is under writeback.";
      told.classList.toggle("alarm", still && of("running") === 0);
    };
  }

  function slider() {
    const input = document.getElementById("instant");
    if (!input || !series.length) return;
    const times = series[0].time_s;
    const show = [...document.querySelectorAll(".instant")].map(instants);
    const set = () => {
      const i = Number(input.value);
      const words = `${times[i].toFixed(1)} s`;
      document.getElementById("at").textContent = words;
      input.setAttribute("aria-valuetext", words);
      show.forEach((one) => one(i));
    };
    input.max = Math.min(...series.map((one) => one.time_s.length)) - 1;
    const start = times.findIndex((time) => time >= Number(input.dataset.start));
    input.value = Math.max(0, start);
    input.addEventListener("input", set);
    const button = document.getElementById("play");
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
    };
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(input.value) >= Number(input.max)) input.value = 0;
      button.textContent = "Pause";
      timer = setInterval(() => {
        input.value = Number(input.value) + 1;
        set();
        if (Number(input.value) >= Number(input.max)) stop();
      }, 60);
    });
    set();
  }

  // Frames tell what they are when pointed at or focused; arrow keys walk along a row, up and down.
  function flame() {
    const rows = [...document.querySelectorAll(".flame .row")].map((row) => [...row.children]);
    const told = document.getElementById("flame-told");
    const left = (frame) => parseFloat(frame.style.left);
    const focus = (frame) => {
      rows.flat().forEach((one) => (one.tabIndex = one === frame ? 0 : -1));
      frame.focus();
    };
    rows.forEach((row, depth) => row.forEach((frame, i) => {
      const tell = () => (told.textContent = frame.getAttribute("aria-label"));
      frame.addEventListener("pointerenter", tell);
      frame.addEventListener("focus", tell);
      frame.addEventListener("keydown", (event) => {
        const below = (rows[depth + 1] || []).find((one) => left(one) >= left(frame) - 1e-3);
        const above = (rows[depth - 1] || []).filter((one) => left(one) <= left(frame) + 1e-3).pop();
        const to = { ArrowRight: row[i + 1], ArrowLeft: row[i - 1], ArrowDown: below, ArrowUp: above,
          Home: row[0], End: row[row.length - 1] }[event.key];
        if (to) {
          event.preventDefault();
          focus(to);
        }
      });
    }));
  }

  dark.addEventListener("change", draw);
  flame();
  slider();
  draw();
})();
