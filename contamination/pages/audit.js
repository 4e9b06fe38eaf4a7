"use strict";
(() => {
  const names = ["benchmark", "class", "source"];
  const selects = names.map((name) => document.getElementById("filter-" + name));
  const cards = Array.from(document.querySelectorAll("article"));
  const shown = document.getElementById("shown");
  if (!shown) return;
  function apply() {
    let count = 0;
    for (const card of cards) {
      const fits = selects.every((s, k) => !s.value || card.dataset[names[k]] === s.value);
      card.hidden = !fits;
      count += fits ? 1 : 0;
    }
    shown.textContent = count.toLocaleString("en") + " of " + cards.length.toLocaleString("en") + " shown";
  }
  selects.forEach((select) => select.addEventListener("change", apply));
  apply();
})();
