"use strict";
(() => {
  const root = document.documentElement, status = document.getElementById("status");
  const themes = ["auto", "light", "dark"], toggle = document.getElementById("theme");
  const stored = { get: () => { try { return localStorage.getItem("neumf-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("neumf-theme", value); } catch { /* private */ } } };
  let theme = themes.includes(stored.get()) ? stored.get() : "auto";
  const show = () => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    toggle.textContent = "Theme: " + theme;
  };
  toggle.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % 3];
    stored.set(theme);
    show();
  });
  show();
  for (const button of document.querySelectorAll("button[hidden]")) button.hidden = false;

  // Tables that are wider than their box get a cue beside their name.
  const markWide = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      box.closest(".block").toggleAttribute("data-wide", box.scrollWidth > box.clientWidth + 1);
    }
  };
  addEventListener("resize", markWide);
  document.addEventListener("toggle", markWide, true);
  markWide();

  const asText = (table) => Array.from(table.rows, (row) => Array.from(
    row.cells, (cell) => cell.textContent.trim().replace(/\s+/g, " ")).join("\t")).join("\n");
  const byHand = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  };
  for (const button of document.querySelectorAll("button[data-table]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const text = asText(document.getElementById(button.dataset.table));
      let said = "Copied";
      try {
        try { await navigator.clipboard.writeText(text); } catch { byHand(text); }
      } catch { said = "Not allowed here"; }
      button.focus();
      button.textContent = status.textContent = said;
      setTimeout(() => { button.textContent = label; status.textContent = ""; }, 1600);
    });
  }
})();
