"use strict";
(() => {
  const LEVELS = 255;
  const NAMED = 4; /* edges named in a sentence */
  const COLOURS = 6;
  const DASHES = ["none", "7 3", "2 2.5", "10 3 2 3", "4 2", "14 4"];
  const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
    [92, 200, 99], [170, 220, 50], [253, 231, 37]];

  function decode(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /* Calls visit(source, weight) for every edge that is held of one query. */
  function reader(packed) {
    const weights = decode(packed.weights);
    const bytes = packed.sources && decode(packed.sources);
    const sources = bytes && packed.source_bytes === 2 ? new Uint16Array(bytes.buffer) : bytes;
    const { layers, heads, edges, tokens: { length } } = packed;
    return (step, layer, head, query, visit) => {
      const first = (((step * layers + layer) * heads + head) * length + query) * edges;
      for (let i = 0; i < edges; i++) visit(sources ? sources[first + i] : i, weights[first + i] / LEVELS);
    };
  }

  function element(parent, name, className, text = "") {
    const made = parent.ownerDocument.createElement(name);
    made.className = className;
    made.textContent = text;
    return parent.appendChild(made);
  }

  function line(svg, path, head, weight) {
    const made = svg.ownerDocument.createElementNS(svg.namespaceURI, "path");
    made.setAttribute("d", path);
    made.setAttribute("class", `attention-colour-${head % COLOURS}`);
    made.setAttribute("stroke-dasharray", DASHES[(head + Math.floor(head / COLOURS)) % DASHES.length]);
    made.setAttribute("stroke-width", (0.75 + 4.75 * weight).toFixed(2));
    made.setAttribute("stroke-opacity", (0.4 + 0.6 * weight).toFixed(2));
    return svg.appendChild(made);
  }

  /* The colour of every level as one number, in the byte order of the machine. */
  const SHADES = new Uint32Array(Uint8ClampedArray.from({ length: 4 * (LEVELS + 1) }, (_, byte) => {
    const place = (Math.floor(byte / 4) / LEVELS) * (VIRIDIS.length - 1);
    const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const [from, to] = [VIRIDIS[below], VIRIDIS[below + 1]].map((colour) => [...colour, 255][byte % 4]);
    return from + (place - below) * (to - from);
  }).buffer);

  /* A map; where several positions fall on one pixel, their largest weight. Images, because a browser keeps up a
     thousand canvases only with effort. */
  function drawMap(picture, side, length, visitEdges) {
    const levels = new Uint8Array(side * side);
    const pixel = (position) => Math.floor((position * side) / length);
    for (let query = 0; query < length; query++) {
      visitEdges(query, (source, weight) => {
        const place = pixel(query) * side + pixel(source);
        levels[place] = Math.max(levels[place], Math.round(weight * LEVELS));
      });
    }
    const canvas = picture.ownerDocument.createElement("canvas");
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const image = context.createImageData(side, side);
    new Uint32Array(image.data.buffer).set(Uint32Array.from(levels, (level) => SHADES[level]));
    context.putImageData(image, 0, 0);
    picture.src = canvas.toDataURL();
  }

  /* A radio button with a map for every head, and one for all heads of a layer; calls choose({ layer, heads, name }). */
  function headGrid(view, packed, group, choose) {
    const { layers, heads, first, tokens: { length } } = packed;
    const grid = view.querySelector(".attention-grid");
    const all = Array.from({ length: heads }, (_, head) => head);
    const single = all.map((head) => ({ short: `${head + 1}`, name: `, head ${head + 1}`, heads: [head] }));
    const columns = heads > 1 ? [{ short: "all", name: ", all heads", heads: all }, ...single] : [{ name: "", heads: all }];
    const opened = first ? columns.find((column) => column.heads.length === 1 && column.heads[0] === first[1]) : columns[0];
    grid.style.setProperty("--columns", columns.length);
    const many = columns.length > 9;
    grid.classList.toggle("many", many);
    grid.classList.toggle("single", heads === 1);
    if (heads > 1) ["head", ...columns.map(({ short }) => short)].forEach((text) => element(grid, "span", "attention-top", text));
    const maps = [];
    for (let layer = 0; layer < layers; layer++) {
      element(grid, "span", "attention-row", `layer ${layer + 1}`);
      for (const column of columns) {
        const choice = { layer, heads: column.heads, name: `Layer ${layer + 1}${column.name}` };
        const label = element(grid, "label", "attention-map");
        label.title = choice.name;
        const input = element(label, "input", "");
        input.type = "radio";
        input.name = group;
        input.checked = layer === (first ? first[0] : layers - 1) && column === opened;
        input.setAttribute("aria-label", choice.name);
        input.addEventListener("change", () => choose(choice));
        const picture = element(label, "img", "");
        picture.alt = "";
        maps.push({ choice, picture, input, side: Math.min(length, many ? 26 : 48) });
      }
    }
    /* Left and right move along the buttons by themselves; up and down shall move between layers. */
    grid.addEventListener("keydown", (event) => {
      const move = { ArrowUp: -columns.length, ArrowDown: columns.length }[event.key];
      const next = move && maps[maps.findIndex(({ input }) => input === event.target) + move];
      if (move) event.preventDefault();
      if (next) {
        next.input.focus();
        next.input.click();
      }
    });
    return maps;
  }

  /* Two columns of positions, calling show(position) when one is pointed at or focused (null when none is) and
     pin(position) when one is to stay. */
  function positionColumns(view, packed, show, pin) {
    const { tokens, roles } = packed;
    const row = (column, tag) => tokens.map((token, position) => {
      const cell = element(column, "div", `attention-cell ${roles[position].split(" ")[0]}`);
      const name = element(cell, tag, "attention-token");
      element(name, "span", "attention-position", `${position + 1} `);
      element(name, "span", "attention-name", token);
      element(name, "span", "attention-role", ` ${roles[position]}`);
      cell.addEventListener("pointerenter", () => show("pointed", position));
      cell.addEventListener("pointerleave", () => show("pointed", null));
      cell.addEventListener("click", () => pin(position));
      return { cell, name, weight: element(cell, "span", "attention-weight") };
    });
    const left = view.querySelector(".readers");
    const columns = { readers: row(left, "button"), sources: row(view.querySelector(".sources"), "span") };
    columns.readers.forEach(({ name }, position) => {
      name.type = "button";
      name.addEventListener("focus", () => show("focused", position));
      name.addEventListener("blur", () => show("focused", null));
    });
    left.addEventListener("keydown", (event) => {
      const here = columns.readers.findIndex(({ name }) => name === event.target);
      const last = tokens.length - 1;
      const next = { ArrowUp: here - 1, ArrowLeft: here - 1, ArrowDown: here + 1, ArrowRight: here + 1, Home: 0, End: last };
      if (!(event.key in next)) return;
      event.preventDefault();
      columns.readers[Math.min(Math.max(next[event.key], 0), last)].name.focus();
    });
    return columns;
  }

  function sentence(packed, position, reads, readBy, severalHeads) {
    const words = (place) => {
      const names = [packed.tokens[place], packed.roles[place]].filter(Boolean).join(", ");
      return `position ${place + 1} (${names})`;
    };
    const list = (edges, say) => {
      const named = edges.slice(0, NAMED).map((edge) => say(edge) + (severalHeads ? ` in head ${edge.head + 1}` : ""));
      const rest = edges.length - named.length;
      return named.join(", ") + (rest ? `, and ${rest} weaker` : "");
    };
    const from = ({ source, weight }) => `${weight.toFixed(2)} from ${source === position ? "itself" : words(source)}`;
    const by = ({ query, weight }) => `${words(query)} with ${weight.toFixed(2)}`;
    const name = words(position);
    return `${name[0].toUpperCase()}${name.slice(1)} reads ${list(reads, from) || "nothing that is shown"}. ` +
      (readBy.length ? `It is read by ${list(readBy, by)}.` : "No other position is shown to read it.");
  }

  function build(root, number) {
    const packed = JSON.parse(root.querySelector("script").textContent);
    const view = root.querySelector("template").content.cloneNode(true).firstElementChild;
    const visit = reader(packed);
    const { heads, steps, tokens: { length } } = packed;
    const find = (name) => view.querySelector(name);
    const [svg, text, title, legend, slider, stepText] =
      ["svg", ".attention-text", ".attention-title", ".attention-legend", "input[type=range]", ".attention-step"].map(find);

    /* What is pointed at is shown before what is focused, and that before what is pinned. */
    const state = { step: steps.length - 1, pinned: length - 1, focused: null, pointed: null, choice: null };
    const maps = headGrid(view, packed, `attention-${number}`, (choice) => update({ choice }));
    const columns = positionColumns(
      view, packed, (how, position) => update({ [how]: position }), (position) => update({ pinned: position }));
    state.choice = maps.find(({ input }) => input.checked).choice;
    svg.setAttribute("viewBox", `0 0 100 ${length}`);
    find(".attention-flow").classList.toggle("long", length > 24);

    function update(change) {
      Object.assign(state, change);
      drawEdges();
      if ("step" in change) drawMaps();
    }

    function drawMaps() {
      for (const { choice, picture, side } of maps) {
        drawMap(picture, side, length, (query, each) => {
          choice.heads.forEach((head) => visit(state.step, choice.layer, head, query, each));
        });
      }
      const last = state.step === steps.length - 1;
      stepText.textContent = `${steps[state.step]}${last ? " (end of training)" : ` of ${steps[steps.length - 1]}`}`;
      slider.setAttribute("aria-valuetext", stepText.textContent);
    }

    function edgesOf(position) {
      const reads = [];
      const readBy = [];
      const { layer, heads: members } = state.choice;
      for (const head of members) {
        for (let query = 0; query < length; query++) {
          visit(state.step, layer, head, query, (source, weight) => {
            if (weight < packed.least) return;
            if (query === position) reads.push({ head, query, source, weight });
            else if (source === position) readBy.push({ head, query, source, weight });
          });
        }
      }
      const strongestFirst = (a, b) => b.weight - a.weight;
      return [reads.sort(strongestFirst), readBy.sort(strongestFirst)];
    }

    /* One head: a colour for each direction. Several: a colour for each head, beside one another within a row. */
    function drawEdges() {
      const shown = state.pointed ?? state.focused ?? state.pinned;
      const [reads, readBy] = edgesOf(shown);
      const several = state.choice.heads.length > 1;
      const height = (head) => (several ? 0.2 + (0.6 * head) / (heads - 1) : 0.5);
      svg.replaceChildren();
      const draw = (edges, direction, cells, end) => {
        cells.forEach(({ cell, weight }, position) => {
          weight.textContent = "";
          cell.classList.toggle("shown", position === shown);
        });
        for (const edge of [...edges].reverse()) {
          const [y0, y1] = [edge.query + height(edge.head), edge.source + height(edge.head)];
          const path = `M0 ${y0}C50 ${y0} 50 ${y1} 100 ${y1}`;
          const drawn = line(svg, path, several ? edge.head : direction, edge.weight);
          Object.assign(drawn.dataset, { ...edge, weight: edge.weight.toFixed(4) });
          cells[edge[end]].weight.textContent = (several ? `h${edge.head + 1} ` : "") + edge.weight.toFixed(2);
        }
      };
      draw(readBy, 1, columns.readers, "query");
      draw(reads, 0, columns.sources, "source");
      columns.readers.forEach(({ name }, position) => {
        name.setAttribute("aria-pressed", position === state.pinned);
        name.tabIndex = position === (state.focused ?? state.pinned) ? 0 : -1;
      });
      view.classList.toggle("several", several);
      title.textContent = state.choice.name;
      text.textContent = sentence(packed, shown, reads, readBy, several);
      drawLegend(several ? state.choice.heads.map((head) => [head, `head ${head + 1}`]) :
        [[0, "what it reads"], [1, "who reads it"]]);
    }

    function drawLegend(entries) {
      legend.replaceChildren();
      for (const [head, name] of entries) {
        const entry = element(legend, "li", "");
        const sample = entry.appendChild(svg.cloneNode(false));
        sample.setAttribute("viewBox", "0 0 32 6");
        line(sample, "M0 3H32", head, 0.5).setAttribute("stroke-opacity", 1);
        entry.append(name);
      }
    }

    slider.max = slider.value = steps.length - 1;
    slider.addEventListener("input", () => update({ step: Number(slider.value) }));
    if (steps.length === 1) find(".attention-time").remove();
    update({ step: state.step });
    const fallback = root.firstElementChild;
    fallback.remove();
    find(".attention-still")?.append(fallback);
    root.append(view);
    const [grid, flow] = [".attention-grid", ".attention-flow"].map(find);
    const [inside, around] = [grid.querySelector("input:checked"), grid].map((box) => box.getBoundingClientRect());
    grid.scrollTop += (inside.top + inside.bottom - around.top - around.bottom) / 2;
    grid.scrollLeft += (inside.left + inside.right - around.left - around.right) / 2;
    flow.scrollTop = flow.scrollHeight;
  }

  document.querySelectorAll(".attention").forEach(build);
})();
