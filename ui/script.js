// The few things a browser has to do itself: report clicks, remember the place, switch panes, theme, zoom.
(() => {
  const root = document.documentElement;
  // The language is that of Gradio's own parts, in whose settings the catalogues are: the first one of the browser.
  const catalogues = window.gradio_config.i18n_translations;
  const base = (tag) => tag.split("-")[0].toLowerCase();
  root.lang = Object.keys(catalogues).find((each) => base(each) === base(navigator.language)) || "en";
  root.dir = root.lang === "ar" ? "rtl" : "ltr";
  const entries = catalogues[root.lang] || {};
  const t = (words, values = {}) => (entries[words] || words).replace(/{(\w+)}/g, (_, name) => values[name]);
  function count(n, one) {
    const forms = entries[`{n} ${one}`] || { one: `{n} ${one}`, other: `{n} ${one}s` };
    return forms[new Intl.PluralRules(root.lang).select(n)].replace("{n}", n);
  }
  // What stays as it is came in English.
  function translate(element) {
    for (const each of element.querySelectorAll("button, span"))
      for (const name of ["ariaLabel", "title", each.children.length ? "" : "textContent"])
        if (each[name]) each[name] = t(each[name]);
  }
  root.style.setProperty("--drop-here", JSON.stringify(t("Drop to add to the library")));
  root.style.setProperty("--or-drop", JSON.stringify(t("or drop files anywhere")));

  const themes = matchMedia("(prefers-color-scheme: dark)");

  function applyTheme() {
    const stored = localStorage.getItem("docpod-theme");
    const dark = stored ? stored === "dark" : themes.matches;
    root.dataset.theme = dark ? "dark" : "light";
    document.body?.classList.toggle("dark", dark);
    docpodFrame.post({ theme: root.dataset.theme });
  }
  themes.addEventListener("change", applyTheme);
  applyTheme();

  function show(pane) {
    root.dataset.pane = pane;
    for (const button of document.querySelectorAll("#switch button"))
      button.setAttribute("aria-pressed", String(button.dataset.show === pane));
  }
  root.dataset.pane = "chat";

  // A region is drawn anew element by element: what the page itself set on one is gone then, and it may be another thing.
  const ANYTHING = { childList: true, subtree: true, characterData: true, attributes: true };
  const made = (name, parts) => Object.assign(document.createElement(name), parts);
  const SHORTCUTS = [
    ["/", t("Ask: to the box for a question")], ["Ctrl K", t("Search titles, pages and conversations")],
    ["↑ ↓", t("Through what was found")], ["Page Up, Page Down", t("In the page pane: on, and to the next page")],
    ["← →", t("In the page pane: the page before and after")],
    ["Esc", t("Close a menu, leave the search, stop an answer")],
    ["Ctrl F", t("In the page pane: find in the document")], ["?", t("This list")],
  ];

  // A question with its answers, or a message when there is only one.
  function dialog(title, words, answers, given) {
    const box = made("dialog", { className: "ask" });
    const form = made("form", { method: "dialog", className: "controls" });
    for (const [value, label, look] of answers)
      form.append(made("button", { value, textContent: label, className: look }));
    const heading = made("h2", { textContent: title, dir: "auto", id: "asked" });
    box.setAttribute("aria-labelledby", heading.id);
    box.append(heading, words.nodeType ? words : made("p", { textContent: words }), form);
    const field = made("input", { value: given, maxLength: 200, ariaLabel: words, dir: "auto" });
    if (given !== undefined) form.prepend(field);
    document.querySelector(".gradio-container").append(box);
    box.showModal();
    field.select();
    return new Promise((resolve) =>
      box.addEventListener("close", () => {
        resolve(given === undefined || box.returnValue !== "yes" ? box.returnValue : `yes ${field.value}`);
        box.remove();
        docpodFocus.back();
      }));
  }
  // The new name, or the tags, of which there may be none; the old ones where nothing is to change.
  async function renamed({ rename, heading = t("Rename"), about = t("The name"), yes = t("Rename"), empty }) {
    const answer = await dialog(heading, about, [["yes", yes, "strong"], ["no", t("Keep"), ""]], rename);
    const said = answer.slice(4).trim();
    return answer.startsWith("yes ") && (said || empty !== undefined) ? said : rename;
  }
  const confirmed = async (data) =>
    (await dialog(data.ask, data.words || "",
      [["no", data.no || t("Keep"), ""], ["yes", data.yes, data.look || "danger"]])) === "yes";

  // Documents that are chosen for a question, by id, through every redrawing of the list.
  const picked = new Set();
  function showPicked() {
    const list = document.querySelector("#documents");
    const boxes = [...(list?.querySelectorAll(".pick") || [])];
    for (const box of boxes) box.checked = picked.has(box.value);
    list?.toggleAttribute("data-picking", picked.size > 0);
    const ask = document.querySelector("[data-several]");
    if (!ask) return;
    ask.dataset.all ||= ask.textContent;
    const words = picked.size ? t("Ask {documents}", { documents: count(picked.size, "chosen document") }) : ask.dataset.all;
    if (ask.textContent !== words) ask.textContent = words;
    for (const other of [...ask.parentElement.children].slice(1)) other.toggleAttribute("hidden", !picked.size);
  }
  document.addEventListener("change", ({ target }) => {
    if (!target.matches?.(".pick")) return;
    target.checked ? picked.add(target.value) : picked.delete(target.value);
    showPicked();
  });

  // What is open is marked in both lists.
  let open = [];
  function mark() {
    const several = document.querySelector("#head .titles");
    for (const row of document.querySelectorAll("#documents :is(.document, .conversations li:has(button))")) {
      const { document: id, conversation } = row.querySelector("button").dataset;
      const current = (conversation ? conversation === open[1] : id === open[0] && !several) ? "true" : null;
      if (row.ariaCurrent !== current) row.ariaCurrent = current;
    }
  }

  function payload(source) {
    const marks = source.closest("[data-citations]");
    const extra = source.closest(".several-bar") ? { documents: [...picked].join(" ") } : {};
    const document = source.dataset.document || marks?.dataset.document || "";
    return { ...source.dataset, ...extra, document, citations: marks ? marks.dataset.citations : "" };
  }
  // Deleting the open document clears the page and so is an event of its own.
  const said = (button) =>
    button.matches(".document[aria-current] > .delete") ? { ...payload(button), event: "delete" } : payload(button);

  // Gives a region's buttons and forms a voice: `data-event` names the Gradio event, the other data go along.
  let tell = () => {};
  function wire(element, trigger) {
    element.dataset.region = "";
    if (element.closest("#settings")) tell = trigger;
    const press = async (button, data = said(button)) => {
      if (data.ask && !(await confirmed(data))) return;
      if ("rename" in data) {
        data.title = await renamed(data);
        if (data.title === data.rename) return;
      }
      if (data.pane) show(data.pane);
      unfolded.delete(button.closest("details.menu")?.dataset.menu);
      sought = data.turn || "";
      reached = "";
      drawn();
      trigger(data.event, data);
      if ("documents" in data) acts.unpick();
      if ("edit" in data) typed().focus();
    };
    // What is pressed is what was there when the mouse went down: where a region is drawn anew meanwhile, its elements
    // become other things, or go and take the click with them.
    const pressed = (event) => event.target.closest("button[data-event]:enabled, [data-menu] > summary");
    let held = null;
    element.addEventListener("pointerdown", (event) => {
      const source = pressed(event);
      held = source && { source, data: said(source), menu: source.parentElement.dataset.menu };
    });
    element.addEventListener("click", (event) => {
      const source = pressed(event);
      // By a key it is what has the focus now.
      if (source?.dataset.event) press(source, event.detail && held?.source === source ? held.data : undefined);
      if (source) held = null;
    });
    element.addEventListener("pointerup", () => setTimeout(() => {
      const { source, data, menu } = held ?? {};
      held = null;
      if (!source || (source.isConnected && JSON.stringify(said(source)) === JSON.stringify(data))) return;
      data.event ? press(source, data) : element.querySelector(`[data-menu="${menu}"] > summary`)?.click();
    }));
    element.addEventListener("change", ({ target }) => {
      if (!target.matches("[data-event]")) return;
      const value = target.type === "checkbox" ? (target.checked ? "on" : "off") : target.value;
      trigger(target.dataset.event, { ...payload(target), value });
    });
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      const form = event.target;
      trigger(form.dataset.event, { ...payload(form), ...Object.fromEntries(new FormData(form)) });
      // A redrawing leaves a field as it was typed.
      if (form.closest("#sheet")) form.reset();
    });
  }

  // Into the clipboard, which pages without HTTPS reach by a selection only; beside the button stands what came of it.
  async function copy(button, words) {
    const sign = Object.assign(document.createElement("span"), { className: "copied", role: "status" });
    button.before(sign);
    const done = await navigator.clipboard?.writeText(words).then(() => true, () => false) || copySelected(words);
    sign.textContent = done ? t("Copied") : t("Could not be copied");
    setTimeout(() => sign.remove(), 2500);
  }
  function copySelected(words) {
    const area = Object.assign(document.createElement("textarea"), { value: words, readOnly: true });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  // Of the two lists of the library one is shown; a search looks into both and shows what it finds in the first.
  function list(name) {
    root.dataset.list = name;
    for (const button of document.querySelectorAll("#lists button"))
      button.setAttribute("aria-pressed", String(button.dataset.list === name));
  }
  document.addEventListener("input", ({ target }) => { if (target.closest("#search")) list("documents"); });

  const acts = {
    list: (button) => list(button.dataset.list),
    theme() {
      localStorage.setItem("docpod-theme", root.dataset.theme === "dark" ? "light" : "dark");
      applyTheme();
    },
    show: (button) => show(button.dataset.show),
    choose: () => document.querySelector("#upload")?.click(),
    // A form of this page, which has no referrer, would come from nowhere.
    leave: () => fetch("leave", { method: "POST" }).finally(() => location.assign("./")),
    unpick() {
      picked.clear();
      showPicked();
    },
    shortcuts() {
      if (document.querySelector("dialog[open]")) return;
      const list = made("dl", {});
      for (const [keys, does] of SHORTCUTS)
        list.append(made("dt", { textContent: keys, dir: "ltr" }), made("dd", { textContent: does }));
      dialog(t("Keyboard shortcuts"), list, [["ok", t("Close"), "strong"]]);
    },
    tag({ dataset }) {
      const box = document.querySelector("#search :is(textarea, input)");
      box.value = `#${dataset.tag}`;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    },
    settings() {
      const sheet = document.querySelector("#settings");
      Object.assign(sheet, { popover: "auto", role: "dialog", ariaLabel: t("Settings"), tabIndex: -1 });
      tell("click", { act: "show" });
      sheet.showPopover();
      sheet.focus();
    },
    close: () => document.querySelector("#settings").hidePopover(),
    fold: (button) => fold(button.closest("details")),
    copy: (button) => copy(button, button.dataset.copy),
    copyLink: (button) => copy(button, button.closest(".share").querySelector(".address").value),
    find: () => docpodFrame.find(),
    thumbs: () => docpodFrame.post({ thumbs: true }),
    ask(button) {
      const box = typed();
      box.value = button.textContent;
      box.dispatchEvent(new Event("input", { bubbles: true }));
      // Once the box has told what it holds.
      setTimeout(() => document.querySelector("#question .submit-button").click());
    },
    smaller: () => zoom(1 / 1.25),
    larger: () => zoom(1.25),
    fit: () => zoom(0),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) acts[button.dataset.do]?.(button);
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) shut(menu);
    // Before what a dialog returns the focus to is folded.
  }, true);
  function shut(menu) {
    unfolded.delete(menu.dataset.menu);
    menu.open = false;
  }
  function fold(menu) {
    shut(menu);
    menu.querySelector("summary").focus();
  }

  let scale = 1;
  function zoom(factor) {
    scale = factor ? Math.min(4, Math.max(0.5, scale * factor)) : 1;
    root.style.setProperty("--zoom", scale);
    docpodFrame.post({ zoom: factor });
  }

  // A page that has just been drawn shows its marked passage.
  document.addEventListener("load", (event) => {
    if (!event.target.matches?.(".sheet img")) return;
    const pane = event.target.closest(".scroll");
    const mark = pane.querySelector(".mark.chosen");
    const top = mark ? mark.offsetTop - pane.clientHeight / 3 : 0;
    pane.scrollTo({ top: Math.max(0, top), behavior: "instant" });
  }, true);

  // The answer of a conversation that was searched for, by its message, and the one that was brought into view.
  let sought = "", reached = "", drawn = () => {};

  // The conversation follows the growing answer unless its reader scrolled away.
  function follow(talk) {
    let pinned = true;
    // In a low window the whole pane scrolls.
    const scroller = () => (getComputedStyle(talk).overflowY === "visible" ? talk.parentElement : talk);
    document.querySelector("#chat-pane").addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = scroller();
      pinned = scrollHeight - scrollTop - clientHeight < 80;
    }, true);
    drawn = () => {
      // Marked as often as it is drawn anew, until something else is opened; brought into view once.
      const turn = sought && talk.querySelector(`[data-answer="${CSS.escape(sought)}"]`);
      if (turn && !turn.matches(".sought")) turn.classList.add("sought");
      if (turn && reached !== sought) {
        reached = sought;
        pinned = false;
        turn.scrollIntoView({ block: "start" });
      } else if (pinned && talk.querySelector(".turn")) scroller().scrollTop = scroller().scrollHeight;
    };
    new MutationObserver(drawn).observe(talk, { ...ANYTHING, attributeFilter: ["class"] });
    document.querySelector("#question")?.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) pinned = true;
    });
  }

  // What is unfolded stays so while it is drawn anew around it.
  const unfolded = new Set();
  document.addEventListener("toggle", ({ target }) => {
    const name = target.dataset?.menu;
    if (name) target.open ? unfolded.add(name) : unfolded.delete(name);
  }, true);
  // At once, since it may be drawn anew before it says that it was unfolded.
  document.addEventListener("click", ({ target }) => {
    const menu = target.closest("[data-menu] > summary")?.parentElement;
    if (menu) menu.open ? unfolded.delete(menu.dataset.menu) : unfolded.add(menu.dataset.menu);
  }, true);
  function keepUnfolded() {
    mark();
    for (const menu of document.querySelectorAll("[data-menu]:not([open])")) if (unfolded.has(menu.dataset.menu)) menu.open = true;
    const choice = document.querySelector("#reader input[name=choice]");
    if (choice && !choice.value) choice.value = chosen;
  }
  // So does what is typed there, until it is sent.
  let chosen = "";
  const typedReader = ({ target, type }) => {
    if (target.closest("#reader form")) chosen = type === "input" ? target.value : "";
  };
  for (const each of ["input", "submit"]) document.addEventListener(each, typedReader, true);

  // Files dropped anywhere go to the upload button.
  function uploadInput() {
    return document.querySelector("#library-pane input[type=file]");
  }
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input !== uploadInput()) return;
    const limit = Number(document.querySelector("[data-most-mb]").dataset.mostMb);
    const files = [...input.files];
    const large = files.filter((file) => file.size > limit * 1e6);
    if (!large.length) return;
    const kept = new DataTransfer();
    for (const file of files) if (!large.includes(file)) kept.items.add(file);
    input.files = kept.files;
    if (!kept.files.length) event.stopImmediatePropagation();
    const names = large.map((file) => `“${file.name}”`).join(", ");
    let words = t("A file may have up to {limit} MB. The settings allow more.", { limit });
    if (names.includes(".docpod”")) words += " " + t("Archives of any size come by the command docpod import.");
    dialog(t("Too large: {files}", { files: names }), words, [["ok", t("OK"), "strong"]]);
  }, true);
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    root.dataset.drag = "";
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) delete root.dataset.drag; });
  document.addEventListener("drop", (event) => {
    delete root.dataset.drag;
    if (!hasFiles(event)) return;
    event.preventDefault();
    const input = uploadInput();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // Turns the page; as long as there is more of a page, Page Up and Page Down move on in it.
  function turned(event) {
    const pane = document.querySelector("#sheet .scroll");
    const step = { PageDown: 1, ArrowRight: 1, PageUp: -1, ArrowLeft: -1 }[event.key];
    if (!pane || !step || !event.target.closest("#page-pane")) return;
    const more = step > 0 ? pane.scrollHeight - pane.clientHeight - pane.scrollTop > 2 : pane.scrollTop > 0;
    if (event.key.startsWith("Page") ? more : pane.scrollWidth > pane.clientWidth) return;
    event.preventDefault();
    document.querySelector(`#sheet [data-step="${step}"]`)?.click();
  }

  // Closes what is unfolded over the page, or else stops the answer.
  function escaped(event) {
    if (document.querySelector(":popover-open")) return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) fold(menu);
    else if (!event.target.closest("#search, dialog")) document.querySelector("#question .stop-button")?.click();
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      show("chat");
      document.querySelector("#question textarea")?.focus();
    }
    if (event.key === "?" && !typing) acts.shortcuts();
    if (event.key === "Escape") escaped(event);
    if (!typing) turned(event);
    if (event.key === "f" && (event.ctrlKey || event.metaKey) && event.target.closest?.("#page-pane") && docpodFrame.find())
      event.preventDefault();
    const search = document.querySelector("#search :is(textarea, input)");
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && search) {
      event.preventDefault();
      show("library");
      search.focus();
      search.select();
    }
    // From the search through what it found and back, by the arrow keys; Esc ends it.
    if (event.target === search && event.key === "Escape" && search.value) {
      search.value = "";
      search.dispatchEvent(new Event("input", { bubbles: true }));
    }
    const found = [search, ...document.querySelectorAll("#documents :is(.document-open, .hit)")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = found.indexOf(event.target);
    if (step && at >= 0 && found[at + step]) {
      event.preventDefault();
      found[at + step].focus();
    }
  });

  // Whether the server is there is asked seldom, and said once; when it is back, the page opens as it was.
  const GONE = t("DocPod is not running any more, or cannot be reached. This page goes on by itself as soon as it is back.");
  const typed = () => document.querySelector("#question textarea");
  async function watch(missed = 0) {
    const there = await fetch("favicon.ico", { cache: "no-store" }).then(() => true, () => false);
    if (there && "gone" in root.dataset) {
      location.reload();
      return;
    }
    if (!there && missed === 1) {
      root.dataset.gone = "";
      document.body.append(made("p", { id: "gone", role: "alert", textContent: GONE }));
    }
    setTimeout(watch, there ? 4000 : 1000, there ? 0 : missed + 1);
  }
  // What is typed outlives the page until it is sent: a new page shows it, as often as its box is drawn anew.
  const DRAFT = "docpod-typed";
  document.addEventListener("input", (event) => {
    if (event.target === typed()) sessionStorage.setItem(DRAFT, event.target.value);
  });
  const sent = () => sessionStorage.removeItem(DRAFT);
  document.addEventListener("keydown", (event) => {
    if (event.target === typed() && event.key === "Enter" && !event.shiftKey) sent();
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest("#question .submit-button")) sent();
  }, true);
  function typeAgain(looks = 100) {
    const box = typed(), words = sessionStorage.getItem(DRAFT);
    if (words && box && !box.disabled && !box.value && document.activeElement !== box) {
      box.value = words;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    if (words && looks) setTimeout(typeAgain, 300, looks - 1);
  }

  // Called once the page is mounted: the place is in the address, ids only; without one it is where this browser was last.
  const LAST = "docpod-last";
  function place() {
    applyTheme();
    show(root.dataset.pane);
    list("documents");
    follow(document.querySelector("#talk"));
    for (const [pane, name] of [["library", t("Library")], ["chat", t("Conversation")], ["page", t("Page")]])
      Object.assign(document.querySelector(`#${pane}-pane`), { role: "region", ariaLabel: name, tabIndex: -1 });
    for (const part of ["#head", "#dial", "#reader", "#documents", "#who", "#settings"])
      new MutationObserver(keepUnfolded).observe(document.querySelector(part), ANYTHING);
    docpodFocus.watch();
    new MutationObserver(showPicked).observe(document.querySelector("#library-pane"), ANYTHING);
    uploadInput()?.setAttribute("accept", document.querySelector("[data-accept]")?.dataset.accept || "");
    docpodFrame.watch();
    typeAgain();
    watch();
    const known = new URLSearchParams(location.hash.slice(1) || localStorage.getItem(LAST) || "");
    return [known.get("d") || "", known.get("c") || ""];
  }
  function remember(documentId, conversationId) {
    open = [documentId, conversationId];
    mark();
    const known = new URLSearchParams();
    if (documentId) known.set("d", documentId);
    if (conversationId) known.set("c", conversationId);
    localStorage.setItem(LAST, known);
    history.replaceState(null, "", documentId ? `#${known}` : location.pathname);
  }

  // The id of a conversation that has no question yet.
  function fresh() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  window.docpod = { wire, translate, place, remember, fresh };
})();
