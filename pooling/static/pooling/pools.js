"use strict";
/* Fetch the live part of the page every two seconds and update only what differs, so that focus,
   open details, typed numbers and selected text are kept. */
(() => {
  const PAUSE = 2000;
  const LONGEST_PAUSE = 15000;
  const live = document.getElementById("pools");
  const announcement = document.getElementById("pools-announcement");
  const lost = document.getElementById("pools-lost");
  const ended = document.getElementById("pools-ended");
  const toggle = document.getElementById("pools-switch");
  const box = toggle.querySelector("input");
  let timer = 0;
  let failures = 0;
  let pending = null;

  const keyOf = (node) => (node.nodeType === 1 && (node.dataset.key || node.id)) || null;
  const alike = (a, b) => a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

  function setAttributes(old, fresh) {
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      const byUser = name === "open" && old.nodeName === "DETAILS";
      if (!byUser && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
  }

  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.dataset.keep !== undefined) return; // its content is another script's
    setAttributes(old, fresh);
    morphChildren(old, fresh);
  }

  function morphChildren(old, fresh) {
    const wanted = [...fresh.childNodes];
    const keyed = new Map();
    for (const node of old.children) if (keyOf(node)) keyed.set(keyOf(node), node);
    const kept = new Set(wanted.map((node) => keyed.get(keyOf(node))));
    let place = old.firstChild;
    for (const node of wanted) {
      while (place && keyOf(place) && !kept.has(place) && !alike(place, node)) {
        const gone = place;
        place = place.nextSibling;
        gone.remove();
      }
      const match = keyed.get(keyOf(node));
      if (match && match.isConnected && alike(match, node)) {
        if (match === place) place = place.nextSibling;
        else old.insertBefore(match, place);
        keyed.delete(keyOf(node)); // a thread may hold two connections: then a key comes twice
        morph(match, node);
      } else if (place && !keyOf(place) && alike(place, node)) {
        const next = place.nextSibling;
        morph(place, node);
        place = next;
      } else {
        old.insertBefore(document.importNode(node, true), place);
      }
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  function setText(where, text) {
    if (where.textContent !== text) where.textContent = text;
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    morphChildren(live, fresh);
    setText(announcement, document.getElementById("pools-summary").textContent);
  }

  async function update() {
    window.clearTimeout(timer);
    if (pending || document.hidden || !box.checked) return;
    pending = new AbortController();
    const timeout = window.setTimeout(() => pending.abort(), LONGEST_PAUSE);
    try {
      const answer = await fetch(live.dataset.live, {
        credentials: "same-origin", redirect: "manual", cache: "no-store", signal: pending.signal,
      });
      // The login page, or a refusal: no outage, and no reason to try again.
      if (answer.type === "opaqueredirect" || answer.status === 403) {
        live.classList.add("stale");
        ended.hidden = false;
        box.checked = false;
        ended.focus();
        return;
      }
      if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
      const text = await answer.text();
      if (box.checked) show(text);
      failures = 0;
      ended.hidden = true;
      live.classList.remove("stale");
      setText(lost, "");
    } catch (error) {
      failures += 1;
      live.classList.add("stale");
      setText(lost, "These numbers are out of date: the site does not answer. Retrying.");
    } finally {
      window.clearTimeout(timeout);
      pending = null;
      timer = window.setTimeout(update, Math.min(PAUSE * 2 ** Math.min(failures, 3), LONGEST_PAUSE));
    }
  }

  toggle.hidden = false;
  box.addEventListener("change", update);
  document.addEventListener("visibilitychange", update);
  timer = window.setTimeout(update, PAUSE);
})();
