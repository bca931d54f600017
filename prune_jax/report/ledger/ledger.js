// The page of the ledger: its table, two rows picked, their verdict. What is concluded comes from verdict.js.
"use strict";

const Ledger = (() => {
  const { rows, facts, pools, table } = LEDGER;
  const fields = Object.keys(pools);
  const names = ["pick", ...LEDGER.columns, "ranking", "place", "letters", "source"];
  const column = Object.fromEntries(names.map((name, i) => [name, i]));
  const NUMBERS = ["ratio", "speedup", "compression", "epochs", "result", "std", "n", "place"];
  const CHOICES = ["data", "network", "method", "metric", "source", "ranking"];
  const HIDDEN = ["compression", "n", "std", "letters"];
  const byId = (id) => document.getElementById(id);
  const picked = []; // numbers of rows, two at most
  const placeOf = new Map(rows.map((row, i) => [row[0], i]));
  let grid;

  const factsOf = (i) => Object.fromEntries(fields.map((name, f) => [name, pools[name][facts[i][f]]]));
  const escaped = DataTable.render.text().display;

  function compared(i, j, required = byId("required").value || "S3.2") {
    const called = [i, j].map((place) => rows[place][column.name]);
    return Verdict.compare(factsOf(i), factsOf(j), called, table, required);
  }

  function result(value, type, row) {
    if (type !== "display" || value === null) return value;
    const [std, n] = [row[column.std], row[column.n]];
    return `${Verdict.fixed2(value)}${std === null ? "" : ` ± ${std.toFixed(2)}`} (n=${n === null ? "?" : n})`;
  }

  // Whether a column of numbers holds text too, such as a ratio of '[0, 0.6]'.
  const mixed = (i) => rows.some((row) => typeof row[i] === "string");
  // A column that says the same of every row takes room and tells nothing.
  const idle = (title) => title === "metric" && new Set(rows.map((row) => row[column.metric])).size < 2;

  function columns() {
    return names.map((title, i) => {
      // A stated type spares the page a look at every cell, and its search a hunt for HTML.
      const type = NUMBERS.includes(title) && !mixed(i) ? "num" : "string";
      const made = { data: i, render: DataTable.render.text(), visible: !HIDDEN.includes(title) && !idle(title), type };
      if (NUMBERS.includes(title)) made.className = "dt-right";
      if (title === "result") made.render = result;
      if (title === "pick")
        made.render = (id, type) =>
          type === "display" ? `<button type="button" class="pick" data-id="${escaped(id)}" aria-label="pick">+</button>` : id;
      if (title === "ranking")
        made.render = (group, type) =>
          type === "display" && group
            ? `<button type="button" class="group" data-group="${escaped(group)}">${escaped(group)}</button>`
            : group;
      if (title === "place")
        made.render = (place, type, row) => (type === "display" && place ? `${place} ${row[column.letters]}` : place);
      if (["name", "source", "pick"].includes(title)) made.className = title;
      if (title === "pick") Object.assign(made, { orderable: false, searchable: false });
      made.columnControl = title === "pick" ? [] : [{ extend: "dropdown", icon: "search", text: `filter ${title}`, content: [CHOICES.includes(title) ? "searchList" : "search"] }];
      return made;
    });
  }

  function mark(tr, place) {
    tr.classList.toggle("first", picked[0] === place);
    tr.classList.toggle("second", picked[1] === place);
    const button = tr.querySelector("button.pick");
    button.textContent = picked[0] === place ? "A" : picked[1] === place ? "B" : "+";
    button.setAttribute("aria-pressed", String(picked.includes(place)));
  }

  // Picks a row, or puts it back; a third row takes the place of the second.
  function pick(place) {
    const at = picked.indexOf(place);
    if (at >= 0) picked.splice(at, 1);
    else if (picked.length < 2) picked.push(place);
    else picked[1] = place;
    show();
  }

  function show() {
    document.querySelectorAll("#ledger tbody tr").forEach((tr) => {
      const button = tr.querySelector("button.pick");
      if (button) mark(tr, placeOf.get(button.dataset.id));
    });
    byId("help").hidden = picked.length > 0;
    byId("picked").hidden = picked.length === 0;
    ["first", "second"].forEach((id, i) => describe(byId(id), "AB"[i], picked[i]));
    byId("judged").hidden = picked.length < 2;
    if (picked.length === 2) judged(...picked);
    const state = picked.map((place) => rows[place][0]).join(",");
    if (state !== location.hash.slice(1)) history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  }

  function describe(into, letter, place) {
    into.replaceChildren();
    if (place === undefined) return void (into.textContent = letter === "B" ? "Pick a second row." : "");
    const bold = Object.assign(document.createElement("b"), { textContent: letter });
    const link = Object.assign(document.createElement("a"), { href: `records/${rows[place][0]}.json` });
    link.textContent = rows[place][column.name];
    into.append(bold, link, ` (${rows[place][column.source]})`);
  }

  function judged(i, j) {
    const { verdict, test, winner, sentence } = compared(i, j);
    const order = table.strictness;
    const next = order[verdict.strictest ? order.indexOf(verdict.strictest) + 1 : 0];
    byId("sentence").textContent = sentence;
    byId("sentence").dataset.winner = winner || "";
    byId("strictest").textContent = verdict.strictest || "none, not even S1";
    byId("next").textContent = next
      ? `${next}: ${verdict.breaks[next].map(Verdict.shown).join("; ")}`
      : "nothing, S4.2 is the strictest";
    byId("test").textContent = !test
      ? "not made"
      : test.p === null
        ? `can't be made: ${test.whyNot}`
        : `p = ${Verdict.general2(test.p)}, A − B = ${test.difference.toFixed(2)}`;
    byId("differing").textContent = verdict.differing.map(Verdict.shown).join("; ") || "none that both state";
    byId("assumed").textContent = verdict.assumed.join(", ") || "nothing";
    const lines = Object.entries(verdict.breaks).map(([setup, breaks]) => {
      const tr = document.createElement("tr");
      if (!breaks.length) tr.className = "holds";
      for (const text of [setup, breaks.length ? "no" : "yes", breaks.map(Verdict.shown).join("; ")])
        tr.append(Object.assign(document.createElement("td"), { textContent: text }));
      return tr;
    });
    document.querySelector("#setups tbody").replaceChildren(...lines);
  }

  // A ranking: the rows between all of which a setup holds, the best first.
  function ranking(group) {
    grid.column(column.ranking).search(group === null ? "" : `^${DataTable.util.escapeRegex(group)}$`, true, false);
    if (group !== null) grid.order([column.place, "asc"]);
    grid.draw();
    note(group);
  }

  function note(group = null) {
    const sorted = grid.order()[0];
    const byResult = sorted && sorted[0] === column.result;
    const text = byId("note");
    text.replaceChildren();
    if (group !== null) {
      text.append(`Ranking ${group} holds between all of these rows. Rows that share a letter are not told apart. `);
      const all = Object.assign(document.createElement("button"), { type: "button", id: "all", textContent: "show all rows" });
      all.addEventListener("click", () => ranking(null));
      text.append(all);
    } else if (byResult) {
      text.textContent = "Sorted, not ranked: between these rows no setup need hold. Rankings are in the column “ranking”.";
    }
    text.dataset.group = group || "";
  }

  function start() {
    document.title = byId("title").textContent = LEDGER.title;
    byId("count").textContent = `${rows.length} records`;
    if (LEDGER.problems.length) {
      const box = byId("problems");
      box.hidden = false;
      box.querySelector("summary").textContent = `${LEDGER.problems.length} records were left out or are there twice`;
      const lines = LEDGER.problems.map((line) => Object.assign(document.createElement("li"), { textContent: line }));
      box.querySelector("ul").append(...lines);
    }
    byId("required").append(...table.winning.map((setup) => new Option(setup, setup, setup === "S3.2", setup === "S3.2")));
    const head = byId("ledger").createTHead().insertRow();
    names.forEach((title) => head.append(Object.assign(document.createElement("th"), { textContent: title })));
    grid = new DataTable("#ledger", {
      data: rows,
      columns: columns(),
      deferRender: true,
      autoWidth: false,
      orderClasses: false,
      pageLength: 25,
      lengthMenu: [25, 100, 500],
      order: [],
      createdRow: (tr, row) => mark(tr, placeOf.get(row[0])),
      drawCallback: () => grid && show(),
    });
    grid.on("order", () => note(byId("note").dataset.group || null));
    byId("ledger").addEventListener("click", (event) => {
      const button = event.target.closest("tbody button");
      if (!button) return;
      if (button.dataset.group) ranking(button.dataset.group);
      else if (placeOf.has(button.dataset.id)) pick(placeOf.get(button.dataset.id));
    });
    byId("required").addEventListener("change", show);
    byId("clear").addEventListener("click", () => {
      picked.length = 0;
      show();
    });
    const linked = location.hash.slice(1).split(",").filter((id) => placeOf.has(id));
    picked.push(...linked.slice(0, 2).map((id) => placeOf.get(id)));
    show();
  }

  start();
  return { compared, pick, ranking, grid };
})();
