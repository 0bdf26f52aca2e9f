// Two clicks send a form once: of two answers the browser shows the second, and the secret of a key is
// in the first alone. Where no answer comes, or the page is come back to, it can be sent again.
(() => {
  const again = 10000;
  const sent = new Set();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (sent.has(form)) return event.preventDefault();
    sent.add(form);
    setTimeout(() => sent.delete(form), again);
  });
  window.addEventListener("pageshow", () => sent.clear());
})();
