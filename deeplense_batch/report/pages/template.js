"use strict";

// A table is sorted by its heads, filtered by what is typed, and a row of it may open.

const collator = new Intl.Collator("en", { numeric: true });

function compare(one, other, sign) {
  const texts = [one.textContent.trim(), other.textContent.trim()];
  const missing = (texts[0] === "-") - (texts[1] === "-");
  if (missing) return missing; // last, whichever way
  const group = collator.compare(one.dataset.group ?? "", other.dataset.group ?? "");
  if (group) return group;
  if (one.dataset.value === undefined) return sign * collator.compare(...texts);
  return sign * (one.dataset.value - other.dataset.value);
}

function tellIfMissing(image) {
  image.addEventListener("error", () => {
    const said = document.createElement("p");
    said.className = "quiet";
    said.textContent =
      `The figure ${image.getAttribute("src")} is missing: it lies beside this page, ` +
      "whose whole folder is to be copied; collect makes it again.";
    image.parentElement.replaceWith(said);
  });
}

function enliven(section) {
  const body = section.querySelector("tbody");
  const heads = [...section.querySelectorAll("thead th")];
  const search = section.querySelector("input");
  const state = section.querySelector("select");
  const count = section.querySelector("output");
  const rows = [...body.rows];
  const all = count.textContent;
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const details = new Map(); // by row, where it is open

  function sort(head) {
    const turned = { ascending: "descending", descending: "ascending" };
    const order = turned[head.getAttribute("aria-sort")] ?? head.dataset.first;
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const cell = (row) => row.cells[head.cellIndex];
    rows.sort((one, other) => compare(cell(one), cell(other), sign));
    body.append(...rows.flatMap((row) => (details.has(row) ? [row, details.get(row)] : [row])));
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/);
    const fits = (row) =>
      words.every((word) => texts.get(row).includes(word)) &&
      (!state?.value || row.dataset.state === state.value);
    for (const row of rows) {
      row.hidden = !fits(row);
      if (details.has(row)) details.get(row).hidden = row.hidden;
    }
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = left === rows.length ? all : `${left} of ${all}`;
  }

  function toggle(row) {
    const template = row.querySelector("template");
    if (!template) return;
    const open = !details.has(row);
    row.querySelector("button").setAttribute("aria-expanded", open);
    if (open) {
      const opened = document.createElement("tr");
      opened.className = "details";
      const cell = opened.insertCell();
      cell.colSpan = heads.length;
      const inner = document.createElement("div");
      inner.append(template.content.cloneNode(true));
      inner.querySelectorAll("img").forEach(tellIfMissing);
      cell.append(inner);
      details.set(row, opened);
      row.after(opened);
    } else {
      details.get(row).remove();
      details.delete(row);
    }
  }

  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => sort(head));
  }
  body.addEventListener("click", (event) => {
    const marking = event.detail && String(getSelection()); // text, to copy it
    if (!marking) toggle(event.target.closest("tr"));
  });
  search.addEventListener("input", filter);
  const more = section.querySelector(".more");
  if (more) {
    const fewer = (brief) => {
      section.classList.toggle("brief", brief);
      more.setAttribute("aria-pressed", !brief);
    };
    more.hidden = false; // without this script all columns are there
    more.addEventListener("click", () => fewer(!section.classList.contains("brief")));
    fewer(true);
  }
  state?.addEventListener("change", filter);
  filter(); // a browser may have kept what was typed
}

document.querySelectorAll(".table").forEach(enliven);
