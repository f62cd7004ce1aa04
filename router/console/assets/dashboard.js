/* Keeps the page's sections as they are now: the server sends those that have changed, one
 * event each, whose first line is the section's id and the rest its content. Without this the
 * page is the same, and is loaded anew every few seconds. */
"use strict";
(() => {
  const live = document.getElementById("live");

  function say(text) {
    if (live.textContent !== text) live.textContent = text;
  }

  /* What the reader has opened, focused and scrolled to stays so. */
  function replace(section, html) {
    const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...section.querySelectorAll("details[open][id]")].map((one) => one.id);
    const left = [...section.querySelectorAll(".wide")].map((one) => one.scrollLeft);
    const regions = [...section.querySelectorAll(".wide")];
    const region = regions.indexOf(document.activeElement);

    section.innerHTML = html;
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    section.querySelectorAll(".wide").forEach((one, i) => { one.scrollLeft = left[i] ?? 0; });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    else if (region >= 0) section.querySelectorAll(".wide")[region]?.focus({ preventScroll: true });
  }

  function onSection(event) {
    const end = event.data.indexOf("\n");
    const section = document.getElementById(event.data.slice(0, end));

    say("Live");
    if (section) replace(section, event.data.slice(end + 1));
  }

  const stream = new EventSource("/live");
  stream.addEventListener("section", onSection);
  stream.addEventListener("open", () => say("Live"));
  stream.addEventListener("error", () => say("Not live: the connection is lost. Trying again."));
})();
