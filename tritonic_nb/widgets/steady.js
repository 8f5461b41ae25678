// Shows HTML that changes often, without a flicker and without a jump: what is new takes the
// place of what was when its pictures are ready, and while `held` the box never gets lower.

function keepUnfolded(before, after) {
  const were = before.querySelectorAll("details");
  const are = after.querySelectorAll("details");
  if (were.length !== are.length) return;
  are.forEach((each, index) => { each.open = were[index].open; });
}

function render({ model, el }) {
  el.classList.add("tnb-steady");
  let newest = 0;
  let ended = false;

  async function show() {
    const turn = ++newest;
    const next = document.createElement("div");
    next.innerHTML = model.get("html");
    const pictures = [...next.querySelectorAll("img")];
    await Promise.allSettled(pictures.map((picture) => picture.decode()));
    if (turn !== newest || ended) return;
    keepUnfolded(el, next);
    el.style.minHeight = model.get("held") ? `${el.offsetHeight}px` : "";
    el.replaceChildren(...next.childNodes);
  }

  model.on("change:html", show);
  show();
  return () => {
    ended = true;
    model.off("change:html", show);
  };
}

export default { render };
