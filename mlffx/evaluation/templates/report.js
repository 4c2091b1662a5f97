"use strict";
// Dispersion and densities of states from the numbers embedded in the page. No library, no network.
// Every element of class plot names its numbers; its legend is inside of it, its readout follows.
document.querySelectorAll(".plot").forEach(function (plot) {
  const data = JSON.parse(document.getElementById(plot.dataset.numbers).textContent);
  if (!data.series.length) return;
  const svgns = "http://www.w3.org/2000/svg";
  const readout = plot.nextElementSibling;
  const hint = readout.innerHTML;
  const shown = data.series.map(() => true);
  let showMeasured = true;
  let geometry = null;

  function add(parent, tag, attributes, text) {
    const element = document.createElementNS(svgns, tag);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  }

  function niceStep(range, count) {
    const raw = range / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
    return [1, 2, 2.5, 5, 10].map(s => s * power).find(s => s >= raw);
  }

  function draw() {
    const width = Math.max(300, plot.clientWidth - 14), narrow = width < 560;
    const height = narrow ? 380 : 500;
    const left = narrow ? 44 : 58, right = narrow ? 6 : 44, top = 12, bottom = 34, gap = 10;
    const dosWidth = narrow ? 64 : 170;
    const bandWidth = width - left - right - gap - dosWidth;
    let low = 0, high = 0, dosHigh = 0;
    data.series.forEach(s => {
      s.mean.forEach(row => row.forEach(v => { low = Math.min(low, v); high = Math.max(high, v); }));
      dosHigh = Math.max(dosHigh, ...s.dos);
    });
    low = low < -5 ? low * 1.08 : 0;
    high *= 1.05;
    const span = data.ticks[data.ticks.length - 1][0];
    const x = d => left + (d / span) * bandWidth;
    const y = f => top + (1 - (f - low) / (high - low)) * (height - top - bottom);
    const inside = v => Math.min(height - bottom, Math.max(top, v));  // bars wider than the axis end at it
    const dx = v => left + bandWidth + gap + (v / (dosHigh * 1.08)) * dosWidth;
    plot.querySelectorAll("svg.chart").forEach(e => e.remove());
    const svg = add(plot, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height: height, role: "img",
      "aria-label": "Phonon dispersion and density of states" });
    const step = niceStep(high - low, narrow ? 5 : 8);
    for (let f = Math.ceil(low / step) * step; f <= high; f += step) {
      add(svg, "line", { x1: left, x2: left + bandWidth + gap + dosWidth, y1: y(f), y2: y(f), stroke: f === 0 ? "#000" : "#e8ebee" });
      add(svg, "text", { x: left - 6, y: y(f) + 4, "text-anchor": "end" }, Math.round(f));
      if (!narrow) add(svg, "text", { x: width - right + 6, y: y(f) + 4 }, (f / data.thz).toFixed(1));
    }
    if (!narrow) {
      add(svg, "text", { x: 13, y: height / 2, transform: `rotate(-90 13 ${height / 2})`, "text-anchor": "middle" }, "frequency (cm⁻¹)");
      add(svg, "text", { x: width - right + 6, y: height - 12 }, "THz");
    }
    data.ticks.forEach(([d, label]) => {
      add(svg, "line", { x1: x(d), x2: x(d), y1: top, y2: height - bottom, stroke: "#b9c0c8" });
      add(svg, "text", { x: x(d), y: height - bottom + 18, "text-anchor": "middle" }, label);
    });
    add(svg, "text", { x: left + bandWidth + gap + dosWidth / 2, y: height - bottom + 18, "text-anchor": "middle" }, narrow ? "DOS" : "density of states");
    add(svg, "rect", { x: left + bandWidth + gap, y: top, width: dosWidth, height: height - top - bottom, fill: "none", stroke: "#b9c0c8" });
    data.series.forEach((s, k) => { if (shown[k]) drawSeries(svg, s, x, y, dx, inside); });
    if (showMeasured) data.measured.forEach(m => m.places.forEach(d => {
      add(svg, "line", { x1: x(d), x2: x(d), y1: y(m.cm1 - m.sigma), y2: y(m.cm1 + m.sigma), stroke: "#000", "stroke-width": 1.4 });
      if (m.neutron) add(svg, "circle", { cx: x(d), cy: y(m.cm1), r: 3.6, fill: "#fff", stroke: "#000", "stroke-width": 1.3 });
      else add(svg, "rect", { x: x(d) - 3.3, y: y(m.cm1) - 3.3, width: 6.6, height: 6.6, fill: "#fff", stroke: "#000", "stroke-width": 1.3 });
    }));
    const mark = add(svg, "circle", { r: 5, fill: "none", stroke: "#000", "stroke-width": 2, visibility: "hidden" });
    geometry = { svg, x, y, left, bandWidth, width, mark };
    svg.addEventListener("pointermove", hover);
    svg.addEventListener("pointerdown", hover);
    svg.addEventListener("pointerleave", () => { mark.setAttribute("visibility", "hidden"); readout.innerHTML = hint; });
  }

  function drawSeries(svg, s, x, y, dx, inside) {
    const modes = s.mean[0].length;
    s.segments.forEach(([start, stop]) => {
      for (let m = 0; m < modes; m++) {
        const points = [], upper = [], lower = [];
        for (let i = start; i < stop; i++) {
          points.push(`${x(s.x[i]).toFixed(1)},${y(s.mean[i][m]).toFixed(1)}`);
          if (s.sigma && s.band) {
            upper.push(`${x(s.x[i]).toFixed(1)},${inside(y(s.mean[i][m] + s.sigma[i][m])).toFixed(1)}`);
            lower.unshift(`${x(s.x[i]).toFixed(1)},${inside(y(s.mean[i][m] - s.sigma[i][m])).toFixed(1)}`);
          }
        }
        if (upper.length) add(svg, "polygon", { points: upper.concat(lower).join(" "), fill: s.color, opacity: 0.25 });
        add(svg, "polyline", { points: points.join(" "), fill: "none", stroke: s.color, "stroke-width": 1.6, "stroke-dasharray": s.dash });
      }
    });
    const dos = s.grid.map((f, i) => `${dx(s.dos[i]).toFixed(1)},${inside(y(f)).toFixed(1)}`);
    add(svg, "polyline", { points: dos.join(" "), fill: "none", stroke: s.color, "stroke-width": 1.3, "stroke-dasharray": s.dash });
  }

  function hover(event) {
    const g = geometry, box = g.svg.getBoundingClientRect();
    const px = (event.clientX - box.left) * g.width / box.width, py = (event.clientY - box.top) * g.width / box.width;
    let best = null;
    data.series.forEach((s, k) => {
      if (!shown[k]) return;
      s.x.forEach((d, i) => {
        const ax = Math.abs(g.x(d) - px);
        if (ax > 12) return;
        s.mean[i].forEach((f, m) => {
          const far = Math.hypot(ax * 1.0, g.y(f) - py);
          if (!best || far < best.far) best = { far, s, i, m, f };
        });
      });
    });
    if (!best || best.far > 60) return;
    const { s, i, m, f } = best;
    g.mark.setAttribute("cx", g.x(s.x[i]));
    g.mark.setAttribute("cy", g.y(f));
    g.mark.setAttribute("visibility", "visible");
    const bar = o => o.sigma ? ` ± ${o.sigma[i][m].toFixed(1)}` : "";
    const name = s.branch[i] && s.branch[i][m] ? s.branch[i][m] : `mode ${m + 1} of ${s.mean[i].length}`;
    const at = s.at[i] ? `${s.at[i]} ` : "";
    const others = data.series.filter((o, k) => o !== s && shown[k] && o.mean.length === s.mean.length)
      .map(o => `${o.name} ${o.mean[i][m].toFixed(1)}${bar(o)}`).join(", ");
    readout.textContent = "";
    const strong = document.createElement("b");
    strong.textContent = `${f.toFixed(1)}${bar(s)} cm⁻¹`;
    readout.append(`${s.name}, ${name}: `, strong,
      ` (${(f / data.thz).toFixed(2)} THz, ${(f / data.thz * data.mev).toFixed(1)} meV) at q = ${at}(${s.q[i].map(v => v.toFixed(3)).join(", ")})` +
      (others ? `; ${others}` : ""));
  }

  const legend = plot.querySelector(".legend");
  function entry(name, icon, toggle) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = true;
    box.addEventListener("change", () => { toggle(box.checked); draw(); });
    const svg = document.createElementNS(svgns, "svg");
    svg.setAttribute("viewBox", "0 0 30 10");
    icon(svg);
    label.append(box, svg, name);
    legend.appendChild(label);
  }
  data.series.forEach((s, k) => entry(s.name, svg => add(svg, "line", { x1: 0, x2: 30, y1: 5, y2: 5, stroke: s.color, "stroke-width": 2.4, "stroke-dasharray": s.dash }), on => { shown[k] = on; }));
  if (data.measured.length) entry("experiment", svg => add(svg, "circle", { cx: 15, cy: 5, r: 3.6, fill: "#fff", stroke: "#000", "stroke-width": 1.3 }), on => { showMeasured = on; });
  draw();
  let last = plot.clientWidth;
  window.addEventListener("resize", () => { if (plot.clientWidth !== last) { last = plot.clientWidth; draw(); } });
});
