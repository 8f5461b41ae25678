// Shows code with a button that copies it.

const SAID_MS = 4000;

function copiedByHand(text) {
  // Where there is no clipboard for pages: not a secure context, or not allowed.
  const area = document.createElement("textarea");
  area.value = text;
  area.style.cssText = "position:fixed;top:0;opacity:0";
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text);
  }
}

function render({ model, el }) {
  el.classList.add("tnb-code");
  const head = document.createElement("div");
  head.className = "tnb-code-head";
  const title = document.createElement("span");
  title.className = "tnb-code-title";
  title.textContent = "The same as code";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the code");
  const said = document.createElement("span");
  said.className = "tnb-code-said";
  said.setAttribute("role", "status");
  said.setAttribute("aria-live", "polite");
  const block = document.createElement("pre");
  block.tabIndex = 0; // so that the keyboard can scroll it
  block.setAttribute("role", "region");
  block.setAttribute("aria-label", "Code for a cell");
  head.append(title, button, said);
  el.append(head, block);

  let timer;
  function say(text) {
    said.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => { said.textContent = ""; }, SAID_MS);
  }
  async function copy() {
    const done = await copied(model.get("code"));
    button.focus();
    say(done ? "copied" : "the browser does not allow it: select the code and copy it");
  }
  function show() {
    block.textContent = model.get("code");
  }
  button.addEventListener("click", copy);
  model.on("change:code", show);
  show();
  return () => {
    clearTimeout(timer);
    model.off("change:code", show);
  };
}

export default { render };
