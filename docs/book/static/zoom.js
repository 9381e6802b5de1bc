// A click on a figure, or Enter, shows it as large as the window allows; Escape or another click closes it.
document.addEventListener("DOMContentLoaded", () => {
  const shown = document.createElement("dialog");
  shown.className = "zoomed";
  shown.setAttribute("aria-label", "Enlarged figure");
  shown.addEventListener("click", () => shown.close());
  // A theme may take Escape for its search before the dialog hears of it.
  document.addEventListener("keydown", (pressed) => pressed.key === "Escape" && shown.close(), true);
  document.body.append(shown);
  for (const image of document.querySelectorAll(".bd-article img")) {
    if (image.closest("a")) continue;
    const button = document.createElement("button");
    button.className = "zoom";
    button.type = "button";
    button.title = "Enlarge";
    button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      const copy = image.cloneNode();
      copy.removeAttribute("style");
      shown.replaceChildren(copy);
      shown.showModal();
    });
  }
  // The corner of a table heads nothing.
  for (const head of document.querySelectorAll(".bd-article th")) {
    if (head.textContent.trim()) continue;
    const corner = document.createElement("td");
    corner.className = head.className;
    head.replaceWith(corner);
  }
  // Displayed formulas may scroll sideways, so that the keyboard must reach them.
  window.MathJax?.startup?.promise.then(() => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"], .bd-article .math.nohighlight'))
      if (formula.scrollWidth > formula.clientWidth || formula.hasAttribute("display")) formula.tabIndex = 0;
  });
});
