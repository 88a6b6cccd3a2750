// The frame of the PDF: gets bytes and what to show, and is believed a page, a mark and a few keys, no more.
(() => {
  const KEYS = ["/", "?", "Escape", "k"];
  const PATIENCE_MS = 30_000;
  const unable = new Set();
  let ready = false, loaded = "", drawn = "";
  const leaf = () => document.querySelector("#sheet .leaf[data-pdf]");
  const frame = () => leaf()?.querySelector("iframe")?.contentWindow;
  const post = (message, moved = []) => frame()?.postMessage(message, "*", moved);

  // Its pages are shown as pictures from now on.
  function givenUp(id) {
    unable.add(id);
    if (leaf()?.dataset.document === id) leaf().querySelector("[data-pictures]").click();
  }

  async function show() {
    const id = leaf()?.dataset.document;
    if (!id) return;
    drawn = leaf().dataset.drawn;
    if (unable.has(id)) givenUp(id);
    else if (!ready) setTimeout(() => ready || givenUp(id), PATIENCE_MS);
    else if (loaded === id) post(at());
    else {
      loaded = id;
      const got = await fetch(`original/${id}`).catch(() => ({}));
      const open = got.ok && (await got.arrayBuffer());
      if (loaded !== id || leaf()?.dataset.document !== id) return;
      if (open) post({ ...at(), open }, [open]);
      else givenUp(id);
    }
  }
  function at() {
    const { page, mark, citations, document: id } = leaf().dataset;
    const marks = JSON.parse(citations).filter(([, , , , document]) => !document || document === id);
    const shown = marks.map(([mark, page, , boxes]) => ({ mark, page, boxes }));
    const place = { page: Number(page), chosen: Number(mark), marks: shown };
    return { place, theme: document.documentElement.dataset.theme };
  }

  // The toolbar follows its reader through the pages.
  function turned(page) {
    const { labels, pdf } = leaf().dataset;
    const printed = JSON.parse(labels)[page - 1] ?? String(page);
    for (const [name, value] of [["page", page], ["printed", printed]]) {
      const field = leaf().querySelector(`input[name=${name}]`);
      // What is being typed stays.
      if (field.value === field.defaultValue) field.value = value;
      field.setAttribute("value", value);
      field.form.dataset.at = page;
    }
    leaf().querySelector("[name=printed]").form.hidden = printed === String(page);
    for (const button of leaf().querySelectorAll("[data-step]")) {
      button.dataset.page = page + Number(button.dataset.step);
      button.disabled = button.dataset.page < 1 || Number(button.dataset.page) > Number(pdf);
    }
  }
  function passage(mark) {
    const answers = document.querySelectorAll("#talk [data-citations]");
    const answer = [...answers].find((each) => each.dataset.citations === leaf().dataset.citations);
    document.querySelector('#switch [data-show="chat"]').click();
    answer?.querySelector(`.chip[data-mark="${mark}"]`)?.focus();
  }

  addEventListener("message", ({ source, data }) => {
    if (!source || source !== frame() || !data) return;
    if (data.ready === true) {
      ready = true;
      loaded = "";
      show();
    } else if (data.failed === true) givenUp(leaf().dataset.document);
    else if (Number.isInteger(data.page) && data.page >= 1 && data.page <= Number(leaf().dataset.pdf)) turned(data.page);
    else if (Number.isInteger(data.mark)) passage(data.mark);
    else if (KEYS.includes(data.key))
      document.body.dispatchEvent(
        new KeyboardEvent("keydown", { key: data.key, ctrlKey: data.key === "k", bubbles: true }));
  });

  // Called once the page is mounted; each drawing of the toolbar has another number.
  function watch() {
    const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["data-drawn"] };
    const redrawn = () => leaf() && leaf().dataset.drawn !== drawn && show();
    new MutationObserver(redrawn).observe(document.querySelector("#sheet"), changes);
    show();
  }
  function find() {
    leaf()?.querySelector("iframe").focus();
    post({ find: true });
    return Boolean(leaf());
  }
  window.docpodFrame = { post, watch, find };
})();
