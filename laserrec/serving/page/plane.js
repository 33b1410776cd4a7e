// Points on a canvas, drawn pixel by pixel so that 100,000 of them move smoothly without a graphics card, and the ways to move and enlarge them.

const CLOSE = 14; // pixels between a pointer and the point it is at
const STEP = 0.15; // of the drawing, that an arrow key moves
const ZOOM = 1.35; // that a key or a button enlarges by
export const LINE = 10; // latest items of the path that a line connects; more of it is a tangle
const FARTHEST = 0.6, NEAREST = 400; // zoom, relative to the whole map

/**
 * Build the drawing on a canvas.
 *
 * @param canvas fills its parent
 * @param about.onHover (index or null, x, y) => what the pointer is at
 * @param about.onPick index => what was chosen by pointer or Enter
 */
export function plane(canvas, { onHover, onPick }) {
  const context = canvas.getContext("2d", { alpha: false });
  let xs = new Float32Array(), ys = new Float32Array(), codes = new Uint8Array(), order = new Uint32Array();
  let palette = { background: "#fff", ink: "#000", main: "#000", colours: [] };
  let marks = { path: [], rings: [], near: [], chosen: null, label: "" };
  let view = { x: 0, y: 0, scale: 1 }, whole = view, bright = null, waiting = false;
  let image = null, pixels = null;

  const ratio = () => Math.min(devicePixelRatio || 1, 2);

  function resize() {
    const [width, height] = [Math.round(canvas.clientWidth * ratio()), Math.round(canvas.clientHeight * ratio())];
    if (!width || !height || (width === canvas.width && height === canvas.height && image)) return;
    const kept = whole.scale ? view.scale / whole.scale : 1;
    [canvas.width, canvas.height] = [width, height];
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer);
    measure();
    view = { ...view, scale: whole.scale * kept };
    redraw();
  }

  function measure() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < xs.length; i += 1) {
      if (xs[i] < left) left = xs[i];
      if (xs[i] > right) right = xs[i];
      if (ys[i] < low) low = ys[i];
      if (ys[i] > high) high = ys[i];
    }
    if (!xs.length) [left, right, low, high] = [-1, 1, -1, 1];
    const scale = 0.94 * Math.min(canvas.width / Math.max(right - left, 1e-6), canvas.height / Math.max(high - low, 1e-6));
    whole = { x: (left + right) / 2, y: (low + high) / 2, scale };
  }

  const place = (index) => [(xs[index] - view.x) * view.scale + canvas.width / 2, (view.y - ys[index]) * view.scale + canvas.height / 2];

  function redraw() {
    if (waiting || !image) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function draw() {
    const { width, height } = canvas;
    pixels.fill(packed(palette.background));
    const radius = ratio() * Math.min(Math.max(2.8 * (2000 / Math.max(xs.length, 1)) ** 0.2 * (view.scale / whole.scale) ** 0.25, 1.1), 6);
    const { offsets, shares, reach } = disc(radius, width);
    const shown = palette.colours.map((colour, code) => packed(bright === null || bright === code ? colour : palette.faint));
    const [middleX, middleY] = [width / 2 - view.x * view.scale, height / 2 + view.y * view.scale];
    for (let k = 0; k < order.length; k += 1) {
      const index = order[k];
      const x = Math.round(xs[index] * view.scale + middleX), y = Math.round(middleY - ys[index] * view.scale);
      if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
      const colour = shown[codes[index]], at = y * width + x;
      const [redBlue, green] = [colour & 0xff00ff, colour & 0xff00];
      for (let part = 0; part < offsets.length; part += 1) {
        const share = shares[part], to = at + offsets[part];
        if (share === 256) pixels[to] = colour;
        else {
          const old = pixels[to];
          pixels[to] = 0xff000000 | ((((old & 0xff00ff) * (256 - share) + redBlue * share) >>> 8) & 0xff00ff)
            | ((((old & 0xff00) * (256 - share) + green * share) >>> 8) & 0xff00);
        }
      }
    }
    context.putImageData(image, 0, 0);
    drawMarks();
  }

  function drawMarks() {
    const one = ratio(), path = marks.path.map(place);
    context.lineJoin = context.lineCap = "round";
    const latest = path.slice(-LINE);
    latest.slice(1).forEach(([x, y], step) => {
      context.globalAlpha = 0.3 + (0.7 * (step + 2)) / latest.length; // the older, the paler
      for (const [colour, width] of [[palette.background, 4.5], [palette.ink, 1.75]]) {
        line(colour, width * one, () => { context.moveTo(...latest[step]); context.lineTo(x, y); });
      }
    });
    context.globalAlpha = 1;
    path.forEach(([x, y], step) => dot(x, y, (step === path.length - 1 ? 6.5 : step >= path.length - LINE ? 4.5 : 3.5) * one, palette.ink));
    for (const index of marks.rings) ring(...place(index), 7 * one, palette.main);
    for (const index of marks.near) ring(...place(index), 5 * one, palette.ink);
    if (marks.chosen !== null) {
      const [x, y] = place(marks.chosen);
      ring(x, y, 10 * one, palette.ink);
      label(marks.label, x, y - 16 * one);
    }
    if (canvas.matches(":focus-visible")) {
      const [x, y, arm] = [canvas.width / 2, canvas.height / 2, 9 * one];
      line(palette.ink, one, () => { context.moveTo(x - arm, y); context.lineTo(x + arm, y); context.moveTo(x, y - arm); context.lineTo(x, y + arm); });
    }
  }

  function line(colour, width, trace) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    trace();
    context.stroke();
  }

  function ring(x, y, radius, colour) {
    for (const [stroke, width] of [[palette.background, 5], [colour, 2.25]]) line(stroke, width * ratio(), () => context.arc(x, y, radius, 0, 2 * Math.PI));
  }

  function dot(x, y, radius, colour) {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    line(palette.background, 1.5 * ratio(), () => context.arc(x, y, radius, 0, 2 * Math.PI));
  }

  function label(text, x, y) {
    context.font = `600 ${13 * ratio()}px system-ui, sans-serif`;
    const words = text.length > 40 ? `${text.slice(0, 39)}…` : text, half = context.measureText(words).width / 2 + 6;
    context.textAlign = "center";
    const middle = Math.min(Math.max(x, half), Math.max(canvas.width - half, half)), high = Math.max(y, 16 * ratio());
    line(palette.background, 5 * ratio(), () => context.strokeText(words, middle, high));
    context.fillStyle = palette.ink;
    context.fillText(words, middle, high);
  }

  /** Return the point nearest to a place on the canvas; null where none is within a distance. */
  function at(x, y, within) {
    let found = null, least = within ** 2;
    const [worldX, worldY] = [(x - canvas.width / 2) / view.scale + view.x, view.y - (y - canvas.height / 2) / view.scale];
    for (let index = 0; index < xs.length; index += 1) {
      const distance = ((xs[index] - worldX) ** 2 + (ys[index] - worldY) ** 2) * view.scale ** 2;
      if (distance < least) [found, least] = [index, distance];
    }
    return found;
  }

  function zoom(by, x = canvas.width / 2, y = canvas.height / 2) {
    const scale = Math.min(Math.max(view.scale * by, whole.scale * FARTHEST), whole.scale * NEAREST);
    const [dx, dy] = [x - canvas.width / 2, y - canvas.height / 2];
    view = { x: view.x + dx / view.scale - dx / scale, y: view.y - dy / view.scale + dy / scale, scale };
    redraw();
  }

  function move(dx, dy) {
    view = { ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale };
    redraw();
  }

  const pointers = new Map();
  let travelled = 0;
  const on = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * ratio(), (event.clientY - box.top) * ratio()];
  };
  const apart = () => {
    const [one, other] = [...pointers.values()];
    return Math.hypot(one[0] - other[0], one[1] - other[1]);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, on(event));
    travelled = pointers.size > 1 ? Infinity : 0;
    onHover(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = on(event), before = pointers.get(event.pointerId);
    if (!before) {
      const index = event.pointerType === "touch" ? null : at(x, y, CLOSE * ratio());
      canvas.classList.toggle("over", index !== null);
      return onHover(index, x / ratio(), y / ratio());
    }
    travelled += Math.hypot(x - before[0], y - before[1]);
    const wide = pointers.size === 2 ? apart() : 0;
    pointers.set(event.pointerId, [x, y]);
    if (wide) {
      const [one, other] = [...pointers.values()];
      zoom(apart() / Math.max(wide, 1), (one[0] + other[0]) / 2, (one[1] + other[1]) / 2);
    }
    move((x - before[0]) / pointers.size, (y - before[1]) / pointers.size);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (pointers.delete(event.pointerId) && end === "pointerup" && travelled < 5 * ratio()) pick(...on(event), 1.5 * CLOSE * ratio());
    });
  }
  canvas.addEventListener("pointerleave", () => onHover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    onHover(null);
    zoom(Math.exp(-Math.max(Math.min(event.deltaY, 120), -120) / 400), ...on(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEP * Math.min(canvas.width, canvas.height);
    const acts = {
      ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0), ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
      "+": () => zoom(ZOOM), "=": () => zoom(ZOOM), "-": () => zoom(1 / ZOOM), 0: fit,
      Enter: () => pick(canvas.width / 2, canvas.height / 2, Infinity),
    };
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  });
  canvas.addEventListener("focus", redraw);
  canvas.addEventListener("blur", redraw);
  new ResizeObserver(resize).observe(canvas);

  function pick(x, y, within) {
    const index = at(x, y, within);
    if (index !== null) onPick(index);
  }

  function fit() {
    view = { ...whole };
    redraw();
  }

  return {
    /** Show other points; the view stays where it is when `stay`. */
    show(newX, newY, stay) {
      [xs, ys] = [Float32Array.from(newX), Float32Array.from(newY)];
      measure();
      if (!stay) view = { ...whole };
      resize();
      redraw();
    },
    /** Colour the points by code; those of the last code are drawn first, below the others. */
    colour(newCodes, newPalette, only) {
      [codes, palette, bright] = [Uint8Array.from(newCodes), newPalette, only];
      const last = palette.colours.length - 1, above = (code) => (bright === null ? code !== last : code === bright);
      const rows = Array.from(codes.keys());
      order = Uint32Array.from([...rows.filter((row) => !above(codes[row])), ...rows.filter((row) => above(codes[row]))]);
      redraw();
    },
    mark(next) { marks = next; redraw(); },
    /** Bring a point to the middle, enlarged if the map is shown as a whole. */
    centre(index) {
      view = { x: xs[index], y: ys[index], scale: Math.max(view.scale, 3 * whole.scale) };
      redraw();
    },
    zoom: (inwards) => zoom(inwards ? ZOOM : 1 / ZOOM),
    fit,
  };
}

/** Return the pixels of a disc around a pixel: how far each is in an image, and which share of it is covered, of 256. */
function disc(radius, width) {
  const [offsets, shares, reach] = [[], [], Math.ceil(radius)];
  for (let y = -reach; y <= reach; y += 1) {
    for (let x = -reach; x <= reach; x += 1) {
      const share = Math.round(256 * Math.min(Math.max(radius + 0.5 - Math.hypot(x, y), 0), 1));
      if (share > 0) { offsets.push(y * width + x); shares.push(share); }
    }
  }
  return { offsets: Int32Array.from(offsets), shares: Uint16Array.from(shares), reach };
}

/** Return a colour #rrggbb as the number that its pixel is. */
function packed(colour) {
  const number = parseInt(colour.slice(1), 16);
  return (0xff000000 | ((number & 0xff) << 16) | (number & 0xff00) | (number >> 16)) >>> 0;
}
