// A part that can't be brought up to date says so: figures that stand still look like figures that are
// right. What may pass by itself is asked for again.
(() => {
  // A stream ends and begins again by itself; nobody needs to know unless it stays away.
  const patience = 5000;
  const passing = [0, 429, 502, 503, 504];
  // Why an element is not up to date.
  const failed = new Map();

  const show = () => {
    for (const element of failed.keys()) if (!element.isConnected) failed.delete(element);
    const [status] = failed.values();
    const away = document.getElementById("away");
    let notice = document.getElementById("stale");
    if (status === undefined) return notice?.remove();
    if (!notice) {
      notice = document.createElement("p");
      notice.id = "stale";
      notice.className = "notice bad";
      notice.setAttribute("role", "alert");
    }
    const why = status ? "the server answered with " + status : "the server does not answer";
    const text = `This page is not up to date: ${why}. ` + (passing.includes(status) ? "It asks again by itself." : "Load it again.");
    if (notice.textContent !== text) notice.textContent = text;
    if (!notice.isConnected) away.append(notice);
  };

  const fail = (event) => {
    const { elt, xhr } = event.detail;
    failed.set(elt, xhr.status);
    show();
    if (!passing.includes(xhr.status)) return;
    const after = Number(xhr.getResponseHeader("Retry-After")) * 1000 || patience;
    setTimeout(() => failed.has(elt) && elt.isConnected && htmx.trigger(elt, "again"), after);
  };
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) document.addEventListener(name, fail);

  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.failed) return;
    failed.delete(event.detail.elt);
    show();
  });

  const silent = new Map();
  document.addEventListener("htmx:sseError", (event) => {
    const element = event.target;
    if (silent.has(element)) return;
    silent.set(element, setTimeout(() => {
      failed.set(element, 0);
      show();
    }, patience));
  });
  for (const name of ["htmx:sseOpen", "htmx:sseClose"]) document.addEventListener(name, (event) => {
    clearTimeout(silent.get(event.target));
    silent.delete(event.target);
    failed.delete(event.target);
    show();
  });
})();
