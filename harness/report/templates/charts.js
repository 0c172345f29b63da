// Draws the curves at the width of their place and in the colours of the page's theme, and lets a
// reader choose variants, axes, and bands or single seeds.
(() => {
  "use strict";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const OPTIONS = ["log x", "log y", "single seeds"];

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const text = colour("--text"), muted = colour("--muted"), line = colour("--line");
    const axis = { labelColor: muted, titleColor: text, gridColor: line, domainColor: line, tickColor: line };
    return { background: "transparent", axis };
  }

  const scale = (log) => (log ? { type: "log" } : { type: "linear", zero: false });
  const all = (spec, ...names) => spec.usermeta.lines.flatMap((l) => names.flatMap((name) => l[name]));
  const positive = (spec, name) => all(spec, name).every((v) => v > 0);

  // Rows of means, and where they are asked for of single seeds, of the variants that are ticked.
  function rows(spec, chosen, single, logY) {
    const floor = logY ? Math.min(...all(spec, "y")) / 2 : -Infinity;
    return spec.usermeta.lines.filter((l) => chosen.has(l.variant)).flatMap((l) => {
      const alone = single && l.runs.length > 0;
      const mean = l.x.map((x, i) => ({
        variant: l.variant, seeds: l.seeds, x, y: l.y[i],
        low: alone ? l.y[i] : Math.max(l.low[i], floor),
        high: alone ? l.y[i] : l.high[i],
      }));
      const runs = (alone ? l.runs : []).flatMap((run, seed) =>
        run.map((value, i) => ({ variant: l.variant, seed, x: l.x[i], run: Math.max(value, floor) })));
      return mean.concat(runs);
    });
  }

  function fitted(chart, width) {
    const copy = structuredClone(chart.spec), on = chart.options;
    delete copy.usermeta;
    copy.width = width;
    copy.height = 250;
    copy.autosize = { type: "fit", contains: "padding" };
    copy.encoding.x.scale = scale(on.has("log x"));
    copy.layer.forEach((layer) => { layer.encoding.y.scale = scale(on.has("log y")); });
    const values = rows(chart.spec, chart.chosen, on.has("single seeds"), on.has("log y"));
    if (!values.some((row) => "run" in row)) copy.layer.splice(1, 1);
    copy.data.values = values;
    return copy;
  }

  function swatch(spec, index) {
    const { range } = spec.encoding.color.scale;
    const dashes = spec.layer[spec.layer.length - 1].encoding.strokeDash.scale.range;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const drawn = { x1: 0, x2: 22, y1: 5, y2: 5, stroke: range[index], "stroke-width": 2, "stroke-dasharray": dashes[index].join(" ") };
    svg.setAttribute("width", 22);
    svg.setAttribute("height", 10);
    Object.entries(drawn).forEach(([name, value]) => line.setAttribute(name, value));
    svg.append(line);
    return svg;
  }

  function tick(chart, set, name, ...before) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = set.has(name);
    box.addEventListener("change", () => {
      if (box.checked) set.add(name); else set.delete(name);
      draw(chart, true);
    });
    label.append(box, ...before, name);
    return label;
  }

  // Axes and seeds, the variants that are drawn, and folded those that are not.
  function toggles(chart) {
    const { spec } = chart, { lines } = spec.usermeta, field = document.createElement("fieldset");
    const able = { "log x": positive(spec, "x"), "log y": positive(spec, "y"), "single seeds": all(spec, "runs").length > 0 };
    const variant = (line) => tick(chart, chart.chosen, line.variant, swatch(spec, lines.indexOf(line)));
    const options = OPTIONS.filter((name) => able[name]).map((name) => tick(chart, chart.options, name));
    const rest = lines.filter((line) => !line.shown);
    field.className = "toggles";
    field.setAttribute("aria-label", "Variants and axes");
    field.append(...options, document.createElement("hr"), ...lines.filter((line) => line.shown).map(variant));
    if (rest.length) {
      const more = document.createElement("details"), said = document.createElement("summary");
      said.textContent = `${rest.length} more ${rest.length > 1 ? "variants" : "variant"}, not drawn`;
      more.append(said, ...rest.map(variant));
      field.append(more);
    }
    chart.place.after(field);
  }

  const places = [...document.querySelectorAll(".vega")].map((place) => {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const chosen = new Set(spec.usermeta.lines.filter((l) => l.shown).map((l) => l.variant));
    const options = new Set(spec.encoding.x.scale.type === "log" ? ["log x"] : []);
    const chart = { place, spec, chosen, options, width: 0 };
    toggles(chart);
    return chart;
  });

  // Draws on; `data-drawn` counts how often, for whoever waits for it.
  async function draw(chart, force) {
    const width = Math.floor(chart.place.clientWidth);
    if (!width || (width === chart.width && !force)) return;
    chart.width = width;
    if (chart.view) chart.view.finalize();
    if (!chart.chosen.size) return chart.place.replaceChildren("No variant is chosen.");
    const options = { actions: false, renderer: "svg", config: theme() };
    chart.view = await vegaEmbed(chart.place, fitted(chart, width), options);
    chart.place.dataset.drawn = `${Number(chart.place.dataset.drawn || 0) + 1}`;
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        const chart = places.find((c) => c.place === entry.target);
        draw(chart);
        new ResizeObserver(() => draw(chart)).observe(chart.place);
      }
    }
  }, { rootMargin: "600px" });
  places.forEach((chart) => seen.observe(chart.place));

  const again = () => places.filter((chart) => chart.width).forEach((chart) => draw(chart, true));
  dark.addEventListener("change", again);
  addEventListener("beforeprint", () => places.forEach((chart) => draw(chart)));
})();
