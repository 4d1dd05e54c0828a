// The studio's front: draws what the kernel holds and sends it named edits; it keeps no anatomy.
// State on this side is of the hand alone: mode, brush, selected point, sliders, what is compared.

const GRID = 5; // control points a side
const SIZE = 512; // pixels of the canvas
const LABELS = ["LV cavity", "myocardium", "left atrium", "sector"];
const HELP =
  "drag a point · arrows move the point, or the brush (Shift: further) · N, P next, previous point · " +
  "B brush or points · 1-4 label, 0 eraser · [ ] brush size · Space paints · + - dilate, erode · " +
  "G generate · Esc cancel · Ctrl-Z, Ctrl-Y undo, redo · O, Shift-O overlay · C compare · S save";

function make(tag, options = {}, children = []) {
  const { dataset, ...properties } = options;
  const node = Object.assign(document.createElement(tag), properties);
  Object.assign(node.dataset, dataset ?? {});
  node.append(...children);
  return node;
}

function button(text, title, action, dataset) {
  const node = make("button", { textContent: text, title, type: "button", dataset });
  node.addEventListener("click", action);
  return node;
}

function bytes(view) {
  return view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array();
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

// --- pictures ---------------------------------------------------------------------------------

function paintPicture(canvas, model, image, labels, opacity) {
  const [rows, columns] = model.get("shape");
  const small = new OffscreenCanvas(columns, rows);
  const context = small.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  const colours = model.get("colours").map(rgb);
  const sector = model.get("names").indexOf("sector");
  for (let i = 0; i < rows * columns; i++) {
    const grey = image.length ? image[i] : 0;
    const label = labels[i];
    // Without an image the map is shown whole; over an image the heart alone is tinted.
    const tinted = label !== 0 && (label !== sector || !image.length);
    const weight = tinted ? (image.length ? opacity : 1) : 0;
    for (let k = 0; k < 3; k++)
      pixels.data[4 * i + k] = (1 - weight) * grey + weight * colours[label][k];
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  const target = canvas.getContext("2d");
  target.imageSmoothingEnabled = image.length > 0;
  target.clearRect(0, 0, canvas.width, canvas.height);
  target.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function gridPoints() {
  const points = [];
  for (let i = 0; i < GRID; i++)
    for (let j = 0; j < GRID; j++) points.push([(i + 0.5) / GRID, (j + 0.5) / GRID]);
  return points;
}

// --- the widget -------------------------------------------------------------------------------

function render({ model, el }) {
  const hand = {
    mode: "points", // or "brush"
    point: 12, // selected control point
    drag: null, // {down, right} of the selected point while it is dragged
    nudge: null, // of the selected point by arrow keys: replaced in place while it goes on
    grown: null, // of the selected structure by + and -
    slider: null, // name of the edit whose sliders replace the last edit
    label: LABELS[0],
    erasing: false,
    radius: 0.03,
    brush: [0.5, 0.5],
    stroke: null, // places of the stroke under way
    opacity: 0.45,
    chosen: [], // numbers of results to compare
  };
  const points = gridPoints();
  const send = (action, content = {}, buffers) => model.send({ action, ...content }, undefined, buffers);

  // Canvas
  const canvas = make("canvas", { width: SIZE, height: SIZE, tabIndex: 0, className: "echo-canvas" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "label map and image; press ? for the keys");

  function draw() {
    const image = bytes(model.get("image"));
    const labels = bytes(model.get("label_map"));
    if (!labels.length) return;
    paintPicture(canvas, model, image, labels, hand.opacity);
    const context = canvas.getContext("2d");
    context.lineWidth = 1.5;
    if (hand.mode === "points") drawPoints(context);
    else drawBrush(context);
  }

  function drawPoints(context) {
    points.forEach(([row, column], index) => {
      const chosen = index === hand.point;
      const moved = chosen ? hand.drag ?? hand.nudge : null;
      const x = (column + (moved?.right ?? 0)) * SIZE;
      const y = (row + (moved?.down ?? 0)) * SIZE;
      context.beginPath();
      context.arc(x, y, chosen ? 6 : 4, 0, 2 * Math.PI);
      context.strokeStyle = chosen ? "#ffd24a" : "rgba(255,255,255,0.75)";
      context.stroke();
      if (!moved) return;
      context.beginPath();
      context.moveTo(column * SIZE, row * SIZE);
      context.lineTo(x, y);
      context.stroke();
    });
  }

  function drawBrush(context) {
    context.strokeStyle = context.fillStyle = hand.erasing ? "#ffffff" : colourOf(hand.label);
    context.beginPath();
    context.arc(hand.brush[1] * SIZE, hand.brush[0] * SIZE, hand.radius * SIZE, 0, 2 * Math.PI);
    context.stroke();
    if (!hand.stroke) return;
    context.globalAlpha = 0.6;
    context.lineWidth = 2 * hand.radius * SIZE;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    hand.stroke.forEach(([row, column]) => context.lineTo(column * SIZE, row * SIZE));
    if (hand.stroke.length === 1) context.lineTo(hand.stroke[0][1] * SIZE + 0.1, hand.stroke[0][0] * SIZE);
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
  }

  function colourOf(name) {
    return model.get("colours")[model.get("names").indexOf(name)];
  }

  // Edits of the hand
  function elastic(moved) {
    const [row, column] = points[hand.point];
    return { name: "elastic", parameters: { points: [[row, column, moved.down, moved.right]] } };
  }

  function settle() {
    hand.nudge = hand.grown = hand.slider = null;
  }

  function paint(path) {
    settle();
    const parameters = { path, radius: hand.radius };
    if (hand.erasing) send("edit", { name: "erase", parameters });
    else send("edit", { name: "paint", parameters: { ...parameters, label: hand.label } });
  }

  function nudge(down, right) {
    const before = hand.nudge ?? { down: 0, right: 0 };
    const again = hand.nudge !== null;
    settle();
    hand.nudge = { down: before.down + down, right: before.right + right };
    send("edit", { ...elastic(hand.nudge), in_place_of_last: again });
  }

  function grow(step) {
    const structure = hand.label === "sector" ? LABELS[0] : hand.label;
    const again = hand.grown?.structure === structure;
    const amount = clamp((again ? hand.grown.amount : 0) + step, -0.15, 0.15);
    settle();
    hand.grown = { structure, amount };
    send("edit", { name: "grow", parameters: { structure, amount }, in_place_of_last: again });
  }

  // Pointer
  let lastTry = 0;
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    const [row, column] = place(event);
    if (hand.mode === "brush") {
      hand.brush = [row, column];
      hand.stroke = [[row, column]];
    } else {
      const far = points.map(([r, c]) => Math.hypot(r - row, c - column));
      settle();
      hand.point = far.indexOf(Math.min(...far));
      hand.drag = { down: 0, right: 0 };
    }
    draw();
  });

  canvas.addEventListener("pointermove", (event) => {
    const [row, column] = place(event);
    if (hand.mode === "brush") {
      hand.brush = [row, column];
      hand.stroke?.push([row, column]);
    } else if (hand.drag) {
      const [r, c] = points[hand.point];
      hand.drag = { down: row - r, right: column - c };
      if (performance.now() - lastTry > 120) {
        lastTry = performance.now();
        send("try_edit", elastic(hand.drag));
      }
    } else return;
    draw();
  });

  function lift() {
    if (hand.stroke) paint(hand.stroke.map(([r, c]) => [clamp(r, -1, 2), clamp(c, -1, 2)]));
    else if (hand.drag && (hand.drag.down || hand.drag.right)) send("edit", elastic(hand.drag));
    hand.stroke = hand.drag = null;
    draw();
  }
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  // Toolbar
  const undo = () => (settle(), send("undo"));
  const redo = () => (settle(), send("redo"));
  const generate = () => send("generate");
  const cancel = () => send("cancel");
  const save = () => send("save");
  const modeButton = button("Brush", "paint instead of dragging points (B)", toggleMode, { role: "mode" });
  const labelSelect = make("select", { title: "label of the brush, structure of + and - (1-4, 0 erases)" });
  labelSelect.append(...[...LABELS, "eraser"].map((name) => make("option", { value: name, textContent: name })));
  labelSelect.addEventListener("change", () => chooseLabel(labelSelect.value));
  const radius = range("brush size", 0.004, 0.12, 0.002, () => hand.radius, (v) => (hand.radius = v));
  const opacity = range("overlay", 0, 1, 0.05, () => hand.opacity, (v) => (hand.opacity = v));

  function range(name, low, high, step, get, set) {
    const input = make("input", { type: "range", min: low, max: high, step, value: get(), title: name });
    input.addEventListener("input", () => (set(Number(input.value)), draw()));
    const node = make("label", { className: "echo-range" }, [name, input]);
    node.refresh = () => (input.value = get());
    return node;
  }

  function toggleMode() {
    hand.mode = hand.mode === "points" ? "brush" : "points";
    settle();
    modeButton.textContent = hand.mode === "points" ? "Brush" : "Points";
    draw();
  }

  function chooseLabel(name) {
    hand.erasing = name === "eraser";
    if (!hand.erasing) hand.label = name;
    labelSelect.value = name;
    draw();
  }

  const undoButton = button("Undo", "Ctrl-Z", undo, { role: "undo" });
  const redoButton = button("Redo", "Ctrl-Y", redo, { role: "redo" });
  const file = make("input", { type: "file", accept: ".png,.nii,.gz", hidden: true });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    send("load_map", { name: file.files[0].name }, [await file.files[0].arrayBuffer()]);
    file.value = "";
  });
  const toolbar = make("div", { className: "echo-row" }, [
    undoButton, redoButton, modeButton, labelSelect, radius, opacity,
    button("Load map…", "your own label map, PNG or NIfTI", () => file.click()), file,
  ]);

  // Edits by sliders
  const kindSelect = make("select", { title: "a named deformation or defect", dataset: { role: "edit" } });
  const sliders = make("div", { className: "echo-sliders" });
  function fillMenu() {
    kindSelect.replaceChildren(make("option", { value: "", textContent: "choose an edit…" }));
    for (const group of ["deformation", "structure", "defect"]) {
      const entries = model.get("menu").filter((k) => k.group === group && k.parameters.length);
      const options = entries.map((k) => make("option", { value: k.name, textContent: k.title }));
      kindSelect.append(make("optgroup", { label: group }, options));
    }
  }
  kindSelect.addEventListener("change", () => {
    settle();
    fillSliders();
  });

  function fillSliders() {
    const kind = model.get("menu").find((k) => k.name === kindSelect.value);
    sliders.replaceChildren();
    if (!kind) return;
    const values = Object.fromEntries(kind.parameters.map((p) => [p.name, p.default]));
    const content = () => ({ name: kind.name, parameters: { ...values } });
    const commit = () => {
      const again = hand.slider === kind.name;
      settle();
      hand.slider = kind.name;
      send("edit", { ...content(), in_place_of_last: again });
    };
    const attempt = () => {
      if (performance.now() - lastTry < 120) return;
      lastTry = performance.now();
      send("try_edit", { ...content(), in_place_of_last: hand.slider === kind.name });
    };
    sliders.append(...kind.parameters.map((p) => control(p, values, attempt, commit)));
    const apply = button("Apply", "make this edit once more", () => ((hand.slider = null), commit()));
    sliders.append(apply);
  }

  function control(parameter, values, attempt, commit) {
    const { name, low, high, unit, choices } = parameter;
    const shown = make("output", { textContent: values[name] });
    let input;
    if (parameter.kind === "choice") {
      input = make("select", {}, choices.map((c) => make("option", { value: c, textContent: c })));
    } else {
      input = make("input", { type: "range", min: low, max: high, step: (high - low) / 100 });
      input.addEventListener("input", () => {
        values[name] = Number(input.value);
        shown.textContent = Number(input.value.slice(0, 7));
        attempt();
      });
    }
    input.value = values[name];
    input.dataset.parameter = name;
    input.addEventListener("change", () => {
      values[name] = parameter.kind === "choice" ? input.value : Number(input.value);
      commit();
    });
    const title = `${name.replaceAll("_", " ")}${unit ? `, ${unit}` : ""}`;
    return make("label", { className: "echo-range", title }, [title, input, shown]);
  }

  // Generation
  function setting(name, input) {
    input.dataset.setting = name;
    const refresh = () => (input.value = model.get(name));
    input.addEventListener("change", () => {
      const value = input.type === "number" ? Number(input.value) : input.value;
      model.set(name, value);
      model.save_changes();
      if (name === "view") settle();
    });
    model.on(`change:${name}`, refresh);
    refresh();
    return make("label", { className: "echo-setting" }, [name, input]);
  }

  function select(values) {
    return make("select", {}, values.map((v) => make("option", { value: v, textContent: v })));
  }

  const number = (min, max, step) => make("input", { type: "number", min, max, step });
  const progress = make("progress", { max: 1, value: 0 });
  const message = make("div", { className: "echo-message", dataset: { role: "message" } });
  message.setAttribute("aria-live", "polite");
  const guidance = setting("guidance", number(0, 20, 0.5));
  guidance.title = "s of Eq. 1; of use where the weights were trained with label dropout";
  const generation = make("div", { className: "echo-row" }, [
    setting("view", select(model.get("views"))),
    setting("sampler", select(model.get("samplers"))),
    setting("steps", number(2, 1000, 1)),
    setting("seed", number(0, 2 ** 31, 1)),
    guidance,
    button("Generate", "G", generate, { role: "generate" }),
    button("Cancel", "Esc", cancel, { role: "cancel" }),
    progress,
  ]);

  // Told
  const findings = make("ul", { className: "echo-findings" });
  const history = make("ol", { className: "echo-history" });

  function tell() {
    message.textContent = model.get("message");
    progress.value = model.get("progress");
    progress.style.visibility = model.get("busy") ? "visible" : "hidden";
    findings.replaceChildren(...model.get("findings").map((t) => make("li", { textContent: t })));
    history.replaceChildren(...model.get("history").map((e) => make("li", { textContent: e.title })));
    undoButton.disabled = model.get("history").length === 0;
    redoButton.disabled = model.get("undone") === 0;
  }

  // Filmstrip and comparison
  const strip = make("div", { className: "echo-strip" });
  const comparison = make("div", { className: "echo-compare" });
  const code = make("textarea", { readOnly: true, rows: 6, hidden: true, spellcheck: false });

  function fillStrip() {
    strip.replaceChildren(
      ...model.get("filmstrip").map((r) => {
        const picture = make("img", { src: `data:image/png;base64,${r.image}`, alt: r.caption });
        const chosen = hand.chosen.includes(r.number);
        const figure = make("figure", { className: chosen ? "chosen" : "", dataset: { result: r.number } }, [
          picture,
          make("figcaption", { textContent: r.caption }),
          make("div", {}, [
            button("Compare", "show beside another", () => compare(r.number)),
            button("Save", "image, label map and record", () => send("save", { number: r.number })),
            button("Code", "copy a cell that makes this image", () => send("show_code", { number: r.number })),
          ]),
        ]);
        return figure;
      }),
    );
    comparison.replaceChildren(
      ...hand.chosen.flatMap((n) => {
        const r = model.get("filmstrip").find((each) => each.number === n);
        return r ? [comparedPicture(r)] : [];
      }),
    );
  }

  function comparedPicture(result) {
    const map = make("img", { src: `data:image/png;base64,${result.label_map}`, alt: "label map" });
    const canvas = make("canvas", { width: 320, height: 320 });
    const image = make("img", { src: `data:image/png;base64,${result.image}`, alt: result.caption });
    Promise.all([map.decode(), image.decode()]).then(() => {
      const read = (picture) => {
        const small = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
        const context = small.getContext("2d");
        context.drawImage(picture, 0, 0);
        const { data } = context.getImageData(0, 0, small.width, small.height);
        return Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
      };
      paintPicture(canvas, model, read(image), read(map), hand.opacity);
    });
    return make("figure", {}, [canvas, make("figcaption", { textContent: result.caption })]);
  }

  function compare(number) {
    const without = hand.chosen.filter((n) => n !== number);
    hand.chosen = without.length < hand.chosen.length ? without : [...without, number].slice(-2);
    fillStrip();
  }

  function compareLast() {
    const numbers = model.get("filmstrip").map((r) => r.number);
    hand.chosen = hand.chosen.length ? [] : numbers.slice(-2);
    fillStrip();
  }

  function showCode() {
    code.value = model.get("code");
    code.hidden = !code.value;
    if (!code.value) return;
    code.select();
    navigator.clipboard?.writeText(code.value).catch(() => {});
  }

  // What the values of a user's map mean
  const dialog = make("div", { className: "echo-dialog" });
  function showDialog() {
    const asked = model.get("dialog");
    dialog.replaceChildren();
    if (!asked?.values) return;
    const inputs = asked.values.map((value) => {
      const input = select(asked.meanings);
      input.value = asked.suggestion[value];
      input.dataset.value = value;
      return input;
    });
    const rows = asked.values.map((v, i) => make("label", {}, [`value ${v}`, inputs[i]]));
    const use = button("Use this map", "", () => {
      const meanings = Object.fromEntries(inputs.map((input) => [input.dataset.value, input.value]));
      settle();
      send("use_map", { meanings });
    });
    dialog.append(make("b", { textContent: asked.name }), ...rows, use);
  }

  // Keys
  const keys = {
    n: () => choosePoint(1),
    p: () => choosePoint(-1),
    b: toggleMode,
    g: generate,
    c: compareLast,
    s: save,
    o: () => setOpacity(0.1),
    O: () => setOpacity(-0.1),
    "[": () => setRadius(-0.004),
    "]": () => setRadius(0.004),
    "+": () => grow(0.01),
    "=": () => grow(0.01),
    "-": () => grow(-0.01),
    0: () => chooseLabel("eraser"),
    1: () => chooseLabel(LABELS[0]),
    2: () => chooseLabel(LABELS[1]),
    3: () => chooseLabel(LABELS[2]),
    4: () => chooseLabel(LABELS[3]),
    " ": () => hand.mode === "brush" && paint([[...hand.brush]]),
    "?": () => (help.open = !help.open),
    Escape: cancel,
  };
  const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function choosePoint(step) {
    settle();
    hand.point = (hand.point + step + points.length) % points.length;
    draw();
  }
  function setOpacity(step) {
    hand.opacity = clamp(hand.opacity + step, 0, 1);
    opacity.refresh();
    draw();
  }
  function setRadius(step) {
    hand.radius = clamp(hand.radius + step, 0.004, 0.12);
    radius.refresh();
    draw();
  }
  function move(way, far) {
    const step = far ? 0.05 : 0.01;
    const [down, right] = way.map((w) => w * step);
    if (hand.mode === "points") return nudge(down, right);
    hand.brush = [clamp(hand.brush[0] + down, 0, 1), clamp(hand.brush[1] + right, 0, 1)];
    draw();
  }

  function onKey(event) {
    const inField = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    let action = null;
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key === "z" && !inField) action = event.shiftKey ? redo : undo;
      if (key === "y" && !inField) action = redo;
    } else if (!inField && !event.altKey) {
      const onButton = event.target.tagName === "BUTTON" && event.key === " ";
      if (event.key in ways) action = () => move(ways[event.key], event.shiftKey);
      else if (!onButton) action = keys[event.key] ?? null;
    }
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  const help = make("details", {}, [make("summary", { textContent: "Keys" }), HELP]);
  const root = make("div", { className: "echo-studio", tabIndex: -1 }, [
    toolbar,
    make("div", { className: "echo-main" }, [
      canvas,
      make("div", { className: "echo-panel" }, [
        kindSelect, sliders, make("h4", { textContent: "Edits" }), history,
        make("h4", { textContent: "Findings" }), findings, dialog, help,
      ]),
    ]),
    generation, message, strip, comparison, code,
  ]);
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.addEventListener("keydown", onKey);
  el.append(root);

  // What the kernel changes
  const watch = (names, action) => names.forEach((name) => model.on(`change:${name}`, action));
  watch(["label_map", "image", "shape"], draw);
  watch(["history", "undone", "findings", "message", "busy", "progress"], tell);
  watch(["filmstrip"], fillStrip);
  watch(["code"], showCode);
  watch(["dialog"], showDialog);
  fillMenu();
  fillStrip();
  showDialog();
  tell();
  draw();
}

export default { render };
