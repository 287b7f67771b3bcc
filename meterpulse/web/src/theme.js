// Runs before the first paint, so that a dark page never flashes white.
(() => {
  const KEY = "meterpulse.theme";
  const root = document.documentElement;
  const choices = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");

  const chosen = () => {
    try {
      const stored = localStorage.getItem(KEY);
      return choices.includes(stored) ? stored : "auto";
    } catch {
      return "auto"; // storage is off
    }
  };
  const apply = (choice) => {
    root.dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    root.dataset.themeChoice = choice;
    const word = document.querySelector("[data-theme-word]");
    if (word) word.textContent = `Appearance: ${choice}`;
    const button = document.querySelector("[data-theme-button]");
    if (button) button.title = `Appearance: ${choice}`;
    document.dispatchEvent(new Event("themechange"));
  };

  apply(chosen());
  system.addEventListener("change", () => apply(chosen()));
  document.addEventListener("DOMContentLoaded", () => {
    apply(chosen());
    document.querySelector("[data-theme-button]").addEventListener("click", () => {
      const next = choices[(choices.indexOf(root.dataset.themeChoice) + 1) % choices.length];
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // the choice then holds for this page only
      }
      apply(next);
    });
  });
})();
