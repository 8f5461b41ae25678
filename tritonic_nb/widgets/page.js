// Says that it is shown, which a page without widgets cannot, and shows nothing.

function render({ model }) {
  model.send({ shown: true });
}

export default { render };
