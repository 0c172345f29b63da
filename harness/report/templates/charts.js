// Draws each chart at the width of its place and in the colours of the page's theme.
(() => {
  "use strict";

  const TICK = 28; // pixels that the last tick's figure and the axis take beside a plot
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const text = colour("--text"), muted = colour("--muted"), line = colour("--line");
    const axis = { labelColor: muted, titleColor: text, gridColor: line, domainColor: line, tickColor: line };
    return {
      background: "transparent",
      axis,
      legend: { labelColor: text, titleColor: text },
      title: { color: text, subtitleColor: muted },
    };
  }

  function fitted(spec, width) {
    const copy = structuredClone(spec);
    if (copy.vconcat) {
      const labels = width < 500 ? 108 : 176;
      const axis = { minExtent: labels, maxExtent: labels, labelLimit: labels - 4 };
      copy.config = { ...copy.config, axisY: axis };
      copy.vconcat.forEach((chart) => {
        chart.width = Math.max(120, width - labels - TICK);
        if (chart.title) chart.title.limit = width;
      });
    } else {
      copy.width = width;
      copy.height = 270;
      copy.autosize = { type: "fit", contains: "padding" };
      copy.encoding.color.legend.columns = Math.max(1, Math.floor(width / 160));
      copy.title = { text: copy.title, limit: width };
    }
    return copy;
  }

  const places = [...document.querySelectorAll(".vega")].map((place) => ({
    place,
    spec: JSON.parse(document.getElementById(place.dataset.spec).textContent),
    width: 0,
  }));

  async function draw(chart, force) {
    const width = Math.floor(chart.place.clientWidth);
    if (!width || (width === chart.width && !force)) return;
    chart.width = width;
    if (chart.view) chart.view.finalize();
    const options = { actions: false, renderer: "svg", config: theme() };
    chart.view = await vegaEmbed(chart.place, fitted(chart.spec, width), options);
    chart.place.dataset.drawn = "yes";
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
