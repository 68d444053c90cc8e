// A grid of any number of tiles, of which only those in sight are in the page. The place that it
// scrolls in is no higher than browsers allow: beyond that, pages of it lie over each other.

// Browsers end at some 17 million pixels.
const MAX_HEIGHT = 8_000_000;
// Rows beyond the edges that are there already.
const AROUND = 2;
const GAP = 6;

/**
 * A grid in an element that scrolls and has the focus.
 *
 * @param {HTMLElement} frame what scrolls
 * @param {object} how `tile(index)` gives a new element; `leave(element, index)` is told that it is
 *   gone; `seen(first, end)` is told which are in sight; `open(index)` is what Enter or a click does
 */
export function makeGrid(frame, { tile, leave, seen, open }) {
  const canvas = document.createElement("div");
  canvas.className = "canvas";
  canvas.setAttribute("role", "presentation");
  frame.replaceChildren(canvas);
  const tiles = new Map();
  let total = 0;
  let columns = 1;
  let side = 100;
  let active = 0;
  // The height of all rows, that of the canvas, and by how much a row lies higher there.
  let whole = 0;
  let height = 0;
  let offset = 0;
  let before = 0;
  let drawing = 0;
  // What would have to be laid out to be read anew.
  let room = 0;

  const step = () => side + GAP;
  const rows = () => Math.ceil(total / columns);
  const page = () => Math.max(1, height / 100);
  const jump = () => (whole > height ? (whole - height) / (Math.ceil(whole / page()) - 1) : 0);
  const lastPage = () => Math.ceil(whole / page()) - 1;
  const offsetAt = (top) => Math.round(Math.min(lastPage(), Math.floor(top / page())) * jump());
  const top = () => before + offset;

  function measure() {
    const width = frame.clientWidth;
    room = frame.clientHeight;
    const least = width < 560 ? 100 : 148;
    columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    side = Math.floor((width - (columns - 1) * GAP) / columns);
    whole = Math.max(0, rows() * step() - GAP);
    height = Math.min(whole, MAX_HEIGHT);
    canvas.style.height = `${height}px`;
  }

  function scrollTo(position) {
    const most = Math.max(0, whole - room);
    const wanted = Math.max(0, Math.min(most, position));
    const was = offset;
    offset = offsetAt(wanted);
    if (offset !== was) {
      clear();
    }
    before = wanted - offset;
    frame.scrollTop = before;
    draw();
  }

  function scrolled() {
    const now = frame.scrollTop;
    const moved = Math.abs(now - before);
    if (!moved) {
      return;
    }
    if (moved < room) {
      const wanted = now + offset;
      if (offsetAt(wanted) !== offset) {
        scrollTo(wanted);
        return;
      }
    } else if (whole > height) {
      // Somebody has taken the bar: where it is says how far.
      const share = (whole - room) / (height - room);
      const was = offset;
      offset = offsetAt(now * share);
      if (offset !== was) {
        clear();
      }
    }
    before = now;
    drawing ||= requestAnimationFrame(draw);
  }

  function clear() {
    for (const [index, element] of tiles) {
      leave(element, index);
      element.remove();
    }
    tiles.clear();
  }

  function draw() {
    cancelAnimationFrame(drawing);
    drawing = 0;
    const first = Math.floor(top() / step());
    const last = Math.ceil((top() + room) / step());
    const start = Math.max(0, first - AROUND) * columns;
    const end = Math.min(total, (last + AROUND) * columns);
    for (const [index, element] of tiles) {
      if (index < start || index >= end) {
        leave(element, index);
        element.remove();
        tiles.delete(index);
      }
    }
    const more = [];
    for (let index = start; index < end; index += 1) {
      if (!tiles.has(index)) {
        more.push(placed(index));
      }
    }
    canvas.append(...more);
    seen(Math.max(0, first * columns), Math.min(total, last * columns));
    name();
  }

  function placed(index) {
    const element = tile(index);
    element.id = `tile-${index}`;
    element.dataset.index = index;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", index === active);
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", total);
    place(element, index);
    tiles.set(index, element);
    return element;
  }

  function place(element, index) {
    const x = (index % columns) * step();
    const y = Math.floor(index / columns) * step() - offset;
    // A transform would be a layer to keep for each.
    element.style.left = `${x}px`;
    element.style.top = `${y}px`;
    element.style.width = element.style.height = `${side}px`;
  }

  function point(index) {
    tiles.get(active)?.setAttribute("aria-selected", "false");
    active = index;
    tiles.get(active)?.setAttribute("aria-selected", "true");
    name();
  }

  function name() {
    if (tiles.has(active)) {
      frame.setAttribute("aria-activedescendant", `tile-${active}`);
    } else {
      frame.removeAttribute("aria-activedescendant");
    }
  }

  function choose(index) {
    point(Math.max(0, Math.min(total - 1, index)));
    show(active);
  }

  /** Scroll no further than needed for a tile to be seen. */
  function show(index) {
    const y = Math.floor(index / columns) * step();
    if (y < top()) {
      scrollTo(y);
    } else if (y + side > top() + room) {
      scrollTo(y + side - room);
    }
  }

  const many = () => columns * Math.max(1, Math.floor(room / step()));
  const moves = {
    ArrowLeft: () => active - 1,
    ArrowRight: () => active + 1,
    ArrowUp: () => (active >= columns ? active - columns : active),
    ArrowDown: () => (active + columns < total ? active + columns : active),
    PageUp: () => Math.max(active % columns, active - many()),
    PageDown: () => active + many(),
    Home: () => 0,
    End: () => total - 1,
  };

  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== frame) {
      return;
    }
    if (event.key in moves) {
      choose(moves[event.key]());
    } else if ((event.key === "Enter" || event.key === " ") && total) {
      open(active);
    } else {
      return;
    }
    event.preventDefault();
  });
  frame.addEventListener("click", ({ target }) => {
    const index = target.closest("[data-index]")?.dataset.index;
    if (index !== undefined) {
      point(Number(index));
      open(active);
    }
  });
  frame.addEventListener("scroll", scrolled, { passive: true });
  new ResizeObserver(() => {
    if (frame.clientWidth) {
      // Of the same list: what is there stays, with the pictures that it has.
      const index = first();
      measure();
      begin(index);
      tiles.forEach(place);
    }
  }).observe(frame);

  /** The first tile that is all in sight. */
  function first() {
    return Math.min(Math.max(0, total - 1), Math.ceil(top() / step()) * columns);
  }

  /** Have this tile in the first row. */
  function begin(index) {
    scrollTo(Math.floor(index / columns) * step());
  }

  return {
    first,
    /** Have so many tiles. */
    resize(count, { index = first() } = {}) {
      total = count;
      active = Math.min(active, Math.max(0, total - 1));
      clear();
      measure();
      begin(Math.min(index, Math.max(0, total - 1)));
    },
    /** Begin with this tile. */
    go(index) {
      point(index);
      begin(index);
    },
    choose,
    /** The elements that are there, by their numbers. */
    tiles,
    draw,
  };
}
