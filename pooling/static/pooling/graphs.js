"use strict";
/* Draw the history of each pool with uPlot: four graphs with one time axis and one hover line. */
(() => {
  const EVERY = 5000;
  const HEIGHT = 130;
  const LETTERS = { command: "▼", outage: "✕", start: "+", end: "−" };
  const live = document.getElementById("pools");
  const drawn = new Map();
  let events = [];
  let shown = [0, 1];

  /* Custom properties may hold light-dark(), which a canvas does not know. */
  function resolved(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const digits = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2 });
  };

  /* Sums from the bottom up, so that each series is drawn above the one before. */
  function stack(columns) {
    const sums = [];
    columns.forEach((column, place) => {
      sums.push(column.map((value, at) => (value === null ? null : value + (place ? sums[place - 1][at] : 0))));
    });
    return sums;
  }

  function marks(plot, id) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    ctx.textAlign = "center";
    for (const event of events) {
      if (event.pool && event.pool !== id) continue;
      if (event.time < plot.scales.x.min || event.time > plot.scales.x.max) continue;
      const x = Math.round(plot.valToPos(event.time, "x", true));
      ctx.strokeStyle = ctx.fillStyle = resolved(event.kind === "outage" ? "--pool-bad" : "--body-quiet-color");
      ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(LETTERS[event.kind] || "•", x, bbox.top - 3 * devicePixelRatio);
    }
    ctx.restore();
  }

  function axes(unit) {
    const stroke = resolved("--body-quiet-color");
    const grid = { stroke: resolved("--hairline-color"), width: 1 };
    return [
      { stroke, grid, ticks: grid, size: 28 },
      { stroke, grid, ticks: grid, size: 52, values: (_, all) => all.map((value) => `${digits(value)}${unit}`) },
    ];
  }

  function plot(where, id, title, unit, series, options = {}) {
    const box = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    box.append(caption);
    where.append(box);
    const made = new uPlot({
      width: Math.max(where.clientWidth, 200),
      height: HEIGHT + 30,
      padding: [14, 8, 0, 0],
      cursor: { sync: { key: id }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { range: () => shown }, y: { range: (_, low, high) => [0, Math.max(high || 0, options.least || 1)] } },
      axes: axes(unit),
      hooks: { draw: [(self) => marks(self, id)] },
      series: [{ value: (_, at) => (at ? new Date(at * 1000).toLocaleTimeString() : "–") }, ...series],
      ...options.more,
    }, [[], ...series.map(() => [])], box);
    return made;
  }

  function line(label, name, extra = {}) {
    const stroke = resolved(name);
    return { label, stroke, width: 1.5, points: { show: false }, value: (_, value) => digits(value), ...extra };
  }

  function draw(where, id) {
    where.replaceChildren();
    const own = [[], [], [], []];
    const parts = [["in use", "--pool-leased"], ["idle", "--pool-idle"], ["connecting", "--pool-connecting"], ["waiting", "--pool-bad"]];
    /* The highest sum is drawn first, the others over it. */
    const stacked = parts.map(([label, name], part) => {
      const value = (_, __, ___, at) => digits(at === null ? null : own[part][at]);
      return line(label, name, { fill: resolved(name), width: 0, value });
    }).reverse();
    return {
      own,
      theme: resolved("--body-bg"),
      plots: [
        plot(where, id, "Connections and waiting callers, peaks of each interval (marks: ✕ outage, ▼ action, + process started, − process left)", "", [...stacked, line("max_size", "--body-loud-color", { dash: [4, 4] })]),
        plot(where, id, "Wait time of callers that queued, ms", "", [line("p50", "--pool-idle"), line("p95", "--pool-leased")]),
        plot(where, id, "Leases per second", "", [line("leases/s", "--link-fg")]),
        plot(where, id, "Failures in each interval", "", [line("timeouts", "--pool-bad"), line("rejected", "--pool-leased"), line("failed connects", "--pool-connecting")]),
      ],
    };
  }

  function fill(graph, data) {
    const columns = [data.leased, data.idle, data.connecting, data.waiting];
    columns.forEach((column, place) => { graph.own[place] = column; });
    const sums = stack(columns).reverse();
    const [first, waits, rate, failures] = graph.plots;
    first.setData([data.times, ...sums, data.max_size]);
    waits.setData([data.times, data.p50, data.p95]);
    rate.setData([data.times, data.rate]);
    failures.setData([data.times, data.timeouts, data.rejected, data.connect_errors]);
  }

  function show(history) {
    events = history.events;
    shown = [history.from, history.to];
    for (const where of document.querySelectorAll(".graphs[data-pool]")) {
      const data = history.pools[where.dataset.pool];
      if (!data || !data.times.length) continue;
      where.hidden = false;
      let graph = drawn.get(where);
      if (!graph || graph.theme !== resolved("--body-bg")) {
        graph = draw(where, where.dataset.pool);
        drawn.set(where, graph);
      }
      fill(graph, data);
    }
  }

  function resize() {
    for (const [where, graph] of drawn) {
      for (const each of graph.plots) each.setSize({ width: Math.max(where.clientWidth, 200), height: HEIGHT + 30 });
    }
  }

  async function update() {
    if (!document.hidden && document.querySelector("#pools-switch input").checked) {
      try {
        const answer = await fetch(live.dataset.history, { credentials: "same-origin", redirect: "error", cache: "no-store" });
        if (answer.ok) show(await answer.json());
      } catch (error) { /* the page itself says when the site does not answer */ }
    }
    window.setTimeout(update, EVERY);
  }

  window.addEventListener("resize", resize);
  update();
})();
