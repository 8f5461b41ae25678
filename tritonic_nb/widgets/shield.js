// Makes a box of ipywidgets good neighbours with the page around it. It shows nothing itself.
//
// Keys: what is typed in the box is for the box. Otherwise the arrow keys of a select move the
// notebook's selected cell, and two letters typed there delete it. The attribute is Lumino's
// (JupyterLab's widget library), which looks for it first at the element that has the focus.
//
// Words: ipywidgets' toggle buttons do not say whether they are pressed, and groups have no name.

const MOST_TRIES = 600; // frames; an output that is scrolled out of sight has none

function sayWhatIsPressed(box, selector) {
  for (const button of box.querySelectorAll(selector)) {
    const pressed = String(button.classList.contains("mod-active"));
    if (button.getAttribute("aria-pressed") !== pressed) {
      button.setAttribute("aria-pressed", pressed);
    }
  }
}

function nameGroups(box) {
  sayWhatIsPressed(box, ".widget-toggle-button");
  for (const group of box.querySelectorAll(".widget-toggle-buttons")) {
    const label = group.querySelector(".widget-label");
    group.setAttribute("role", "group");
    if (label?.textContent) group.setAttribute("aria-label", label.textContent);
  }
}

function keepKeys(event) {
  event.target.setAttribute("data-lm-suppress-shortcuts", "true");
}

function render({ el }) {
  el.style.display = "none";
  const observer = new MutationObserver((changes) => {
    nameGroups(changes[0].target.closest(".tnb-live") ?? el);
  });
  let tries = 0;
  let frame = requestAnimationFrame(function attach() {
    const box = el.closest(".tnb-live");
    if (box === null) {
      if (++tries < MOST_TRIES) frame = requestAnimationFrame(attach);
      return;
    }
    box.addEventListener("focusin", keepKeys);
    nameGroups(box);
    observer.observe(box, {
      attributes: true, attributeFilter: ["class"], childList: true, subtree: true,
    });
  });
  return () => {
    cancelAnimationFrame(frame);
    observer.disconnect();
  };
}

export default { render };
