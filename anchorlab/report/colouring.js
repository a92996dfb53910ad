"use strict";
for (const text of document.querySelectorAll(".coloured")) {
  const tokens = [...text.children];
  const told = text.parentElement.querySelector(".told");
  const tell = ({ target }) => {
    if (target.title) told.textContent = `“${target.textContent}” ${target.title}`;
  };
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const enter = (token) => {
    for (const other of text.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    token.tabIndex = 0;
  };
  if (tokens.length) enter(tokens[0]);
  told.textContent = "Point at a token, or move between them with the arrow keys, to see its probability.";
  text.addEventListener("pointerover", tell);
  text.addEventListener("focusin", (event) => {
    enter(event.target);
    tell(event);
  });
  text.addEventListener("keydown", (event) => {
    const next = tokens[tokens.indexOf(event.target) + (steps[event.key] ?? NaN)];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}
