// For each visible text in an element: its color, and the backgrounds behind it from the
// nearest outwards, each as [red, green, blue, alpha]. Backgrounds end at the first opaque one.
root => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const parsed = color => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const found = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    const color = parsed(getComputedStyle(element).color);
    const behind = [];
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each);
      color[3] *= Number(style.opacity);
      if (behind.at(-1)?.[3] !== 1) {
        const layer = parsed(style.backgroundColor);
        if (layer[3] > 0) behind.push(layer);
      }
    }
    found.push({ text: node.data.trim(), color, behind });
  }
  return found;
}
