(() => {
  "use strict";
  const all = (what, root = document) => Array.from(root.querySelectorAll(what));
  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("said").textContent = text; };
  all(".js").forEach((part) => { part.hidden = false; });

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved ${name}`);
  };

  const packs = {};
  const unpack = (id) => {
    packs[id] ||= (async () => {
      const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return JSON.parse(await new Response(stream).text());
    })();
    return packs[id];
  };
  all("[data-csv]").forEach((button) => button.addEventListener("click", async () => {
    save(`${button.dataset.csv}.csv`, "text/csv", (await unpack("tables"))[button.dataset.csv]);
  }));

  all("[data-svg]").forEach((button) => button.addEventListener("click", () => {
    const look = getComputedStyle(document.documentElement);
    const shown = all(".cell>svg,.wide>svg", byId(button.dataset.svg));
    shown.forEach((svg, i) => {
      const copy = svg.cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const text = new XMLSerializer().serializeToString(copy)
        .replace(/var\(--(\w+)\)/g, (_, name) => look.getPropertyValue(`--${name}`).trim());
      save(`${button.dataset.svg}${shown.length > 1 ? `-${i + 1}` : ""}.svg`, "image/svg+xml", text);
    });
  }));

  all("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    const text = byId(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(byId(button.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    say("Copied");
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  }));
  all("[data-save]").forEach((button) => button.addEventListener("click", () => {
    save(button.dataset.name, "text/plain", byId(button.dataset.save).textContent);
  }));

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const key = (cell) => (cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v));
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  all("table.sortable").forEach((table) => all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = all("tbody tr", table);
      rows.sort((a, b) => compare(key(a.cells[column]), key(b.cells[column])) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  }));
  all("[data-filter]").forEach((field) => field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    all("tbody tr", byId(field.dataset.filter)).forEach((row) => {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }));

  // The value under the pointer, or at the arrow keys' place; Esc takes it away.
  const tip = byId("tip");
  const hide = () => { tip.hidden = true; };
  const at = (mark, x, y) => {
    if (mark.g) {
      const [[left, top, right, bottom], rows, columns] = mark.g;
      if (x < left || x >= right || y <= top || y > bottom) return null;
      return [Math.floor((bottom - y) / (bottom - top) * rows.length),
        Math.floor((x - left) / (right - left) * columns.length)];
    }
    let best = null;
    let least = 900;
    (mark.p || []).forEach(([px, py], i) => {
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) { least = far; best = [i, 0]; }
    });
    return best;
  };
  const told = (mark, [i, j]) => {
    if (!mark.g) return mark.p[i];
    const [[left, top, right, bottom], rows, columns, texts] = mark.g;
    return [left + (j + 0.5) / columns.length * (right - left), bottom - (i + 0.5) / rows.length * (bottom - top),
      `${rows[i]}, ${columns[j]}: ${texts[i][j]}`];
  };
  const show = (svg, mark, place) => {
    const [x, y, text] = told(mark, place);
    const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const above = point.y - box.height - 12;
    tip.style.left = `${Math.max(4, Math.min(innerWidth - box.width - 4, point.x - box.width / 2))}px`;
    tip.style.top = `${above > 4 ? above : point.y + 14}px`;
  };
  all("svg[data-marks]").forEach((svg) => {
    let place = [0, 0];
    svg.setAttribute("tabindex", "0");
    const point = async (event) => {
      const { clientX, clientY } = event;
      const mark = (await unpack("marks"))[svg.dataset.marks];
      const spot = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
      const found = mark && at(mark, spot.x, spot.y);
      if (found) { place = found; show(svg, mark, found); } else hide();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", async (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const mark = (await unpack("marks"))[svg.dataset.marks];
      if (!mark) return;
      const keep = (n, size) => Math.max(0, Math.min(size - 1, n));
      place = mark.g
        ? [keep(place[0] + step[0], mark.g[1].length), keep(place[1] + step[1], mark.g[2].length)]
        : [keep(place[0] + step[0] + step[1], mark.p.length), 0];
      show(svg, mark, place);
      say(tip.textContent);
    });
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true });

  const links = new Map(all(".toc a").map((link) => [link.hash.slice(1), link]));
  const mark = () => {
    let here = null;
    for (const id of links.keys()) {
      const part = byId(id);
      if (part && part.getBoundingClientRect().top < innerHeight / 3) here = id;
    }
    links.forEach((link, id) => {
      if (id === here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
})();
