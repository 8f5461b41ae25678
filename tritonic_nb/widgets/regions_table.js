// Two tables with a button in each row that has something to do. All text is set as text.
//
// A row is {id, cells: [text, ...], action: text or "", about: text}: `about` names the button
// for those who do not see its row. A click sends {table, id} to the kernel.

const LONG = 24; // characters

function cell(kind, text, numeric) {
  const element = document.createElement(kind);
  element.textContent = text;
  if (numeric) element.classList.add("tnb-number");
  if (text.length > LONG) element.classList.add("tnb-long"); // may break anywhere
  return element;
}

function buttonOf(row, table, model) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "tnb-button";
  button.textContent = row.action;
  button.dataset.id = row.id;
  button.setAttribute("aria-label", `${row.action} ${row.about}`);
  button.addEventListener("click", () => model.send({ table: table.name, id: row.id }));
  return button;
}

function draw(table, model) {
  const figure = document.createElement("div");
  figure.className = "tnb-scroll";
  const element = document.createElement("table");
  element.className = "tnb-table";
  const caption = document.createElement("caption");
  caption.textContent = table.caption;
  const head = document.createElement("tr");
  const acts = table.rows.some((row) => row.action);
  table.columns.forEach((name, index) => {
    const th = cell("th", name, table.numeric.includes(index));
    th.scope = "col";
    head.append(th);
  });
  if (acts) {
    const last = cell("th", "");
    last.scope = "col";
    last.setAttribute("aria-label", "action");
    head.append(last);
  }
  const thead = document.createElement("thead");
  thead.append(head);
  const body = document.createElement("tbody");
  for (const row of table.rows) {
    const tr = document.createElement("tr");
    row.cells.forEach((text, index) => {
      tr.append(cell("td", text, table.numeric.includes(index)));
    });
    if (acts) {
      const last = document.createElement("td");
      if (row.action) last.append(buttonOf(row, table, model));
      tr.append(last);
    }
    if (row.alarm) tr.className = "tnb-orphan";
    body.append(tr);
  }
  element.append(caption, thead, body);
  figure.append(element);
  return figure;
}

function render({ model, el }) {
  el.classList.add("tnb", "tnb-tables");
  const redraw = () => {
    const focused = el.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    el.replaceChildren(...model.get("tables").map((table) => draw(table, model)));
    if (focused === null) return;
    const buttons = [...el.querySelectorAll("button")];
    // The row may have gone with its button: the next best keeps the keyboard in the table.
    (buttons.find((each) => each.dataset.id === focused) ?? buttons[0])?.focus();
  };
  model.on("change:tables", redraw);
  redraw();
  return () => model.off("change:tables", redraw);
}

export default { render };
