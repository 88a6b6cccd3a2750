// Shows a PDF whose bytes come by message. It runs in a sandbox without an origin: what goes wrong in here stays in here.
import { AnnotationMode, PDFWorker, getDocument } from "./pdfjs/pdf.min.mjs";
import { EventBus, PDFFindController, PDFLinkService, PDFViewer } from "./pdfjs/pdf_viewer.mjs";

const at = (path) => new URL(`pdfjs/${path}`, import.meta.url).href;
const tell = (message) => parent.postMessage(message, new URL(import.meta.url).origin);
const container = document.querySelector("#pages");
const eventBus = new EventBus();
const linkService = new PDFLinkService({ eventBus });
linkService.externalLinkEnabled = false;
const findController = new PDFFindController({ eventBus, linkService });
const viewer = new PDFViewer({
  container, eventBus, linkService, findController, annotationMode: AnnotationMode.ENABLE, removePageBorders: true,
  enableAutoLinking: false,
});
linkService.setViewer(viewer);

let place = { page: 1, chosen: 0, marks: [] };
// Until its reader moves, the page is the one that was asked for, whichever fills the window.
let steered = true;
let opened = null, worker = null;

async function open(bytes) {
  const mine = (opened = {});
  viewer.setDocument(null);
  linkService.setDocument(null);
  worker?.terminate();
  // Without an origin a worker may only be a classic one from a blob; it says when it has imported its script.
  const source = new Blob([`import(${JSON.stringify(at("pdf.worker.min.mjs"))})`], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(source));
  await new Promise((done, failed) => Object.assign(worker, { onmessage: done, onerror: failed }));
  const pdf = await getDocument({
    data: new Uint8Array(bytes), worker: new PDFWorker({ port: worker }), isEvalSupported: false, enableXfa: false,
    cMapUrl: at("cmaps/"), standardFontDataUrl: at("standard_fonts/"), wasmUrl: at("wasm/"), useWorkerFetch: true,
  }).promise;
  if (mine !== opened) return;
  viewer.setDocument(pdf);
  linkService.setDocument(pdf);
  fillThumbs(pdf, await pdf.getPageLabels());
}

const div = (name, style) => Object.assign(document.createElement("div"), { className: name, style });

// Our marks over a page: boxes are fractions of it.
function mark(page) {
  const view = viewer.getPageView(page - 1);
  if (!view) return;
  view.div.querySelector(":scope > .marks")?.remove();
  const layer = div("marks", "");
  for (const each of place.marks.filter((each) => each.page === page))
    each.boxes.forEach(([x0, y0, x1, y1], nth) => {
      const top = `top:${100 * y0}%`;
      const chosen = each.mark === place.chosen || !place.chosen ? " chosen" : "";
      layer.append(div(`mark${chosen}`, `${top};left:${100 * x0}%;width:${100 * (x1 - x0)}%;height:${100 * (y1 - y0)}%`));
      if (nth) return;
      const label = `${each.mark}: show the passage in the answer`;
      const number = Object.assign(document.createElement("button"), { className: "number", ariaLabel: label });
      Object.assign(number, { textContent: each.mark, style: top, onclick: () => tell({ mark: each.mark }) });
      layer.append(number);
    });
  view.div.append(layer);
}

// Small pictures of all pages, each drawn once it comes into view; of all that are there one is reached by Tab.
const thumbs = document.querySelector("#thumbs"), THUMB_PIXELS = 192;
let drawThumb = null;
const nearThumbs = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries)
    if (isIntersecting) {
      nearThumbs.unobserve(target);
      drawThumb(target);
    }
}, { root: thumbs, rootMargin: "400px" });
function fillThumbs(pdf, labels) {
  drawThumb = async (button) => {
    const page = await pdf.getPage(Number(button.dataset.page));
    const viewport = page.getViewport({ scale: THUMB_PIXELS / page.getViewport({ scale: 1 }).width });
    const canvas = Object.assign(document.createElement("canvas"), { width: viewport.width, height: viewport.height });
    await page.render({ canvas, viewport }).promise;
    button.firstChild.replaceWith(canvas);
  };
  thumbs.replaceChildren(...Array.from({ length: pdf.numPages }, (_, at) => {
    const button = Object.assign(document.createElement("button"), { tabIndex: -1, onclick: () => go(at + 1) });
    button.dataset.page = at + 1;
    button.append(div("blank", ""), labels?.[at] || String(at + 1));
    nearThumbs.observe(button);
    return button;
  }));
  showThumb();
}
function showThumb() {
  const before = thumbs.querySelector("[aria-current]"), current = thumbs.children[place.page - 1];
  if (before) Object.assign(before, { ariaCurrent: null, tabIndex: -1 });
  if (current) Object.assign(current, { ariaCurrent: "page", tabIndex: 0 }).scrollIntoView({ block: "nearest" });
}
thumbs.addEventListener("keydown", (event) => {
  const to = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  if (!to) return;
  document.activeElement[to]?.focus();
  event.preventDefault();
});

// Where in the whole document the answer looked.
function showStrip() {
  document.querySelector("#strip").replaceChildren(...place.marks.map(({ mark: chosen, page, boxes: [[, y0] = [0, 0]] }) => {
    const top = `top:${(100 * (page - 1 + y0)) / viewer.pagesCount}%`;
    const onclick = () => {
      place = { ...place, page, chosen };
      look();
      tell({ page });
    };
    return Object.assign(div(chosen === place.chosen ? "chosen" : "", top), { title: `${chosen}: page ${page}`, onclick });
  }));
}

function look() {
  const view = viewer.getPageView(place.page - 1);
  if (!view) return;
  steered = true;
  showStrip();
  showThumb();
  for (let page = 1; page <= viewer.pagesCount; page++)
    if (viewer.getPageView(page - 1).div.querySelector(":scope > .marks") || page === place.page) mark(page);
  const box = place.marks.find((each) => each.page === place.page && each.mark === place.chosen)?.boxes[0];
  const inside = box ? Math.max(0, box[1] * view.div.clientHeight - container.clientHeight / 3) : 0;
  container.scrollTo({ top: view.div.offsetTop + inside, behavior: "instant" });
}

const turn = (step) => go(place.page + step);
function go(page) {
  if (page < 1 || page > viewer.pagesCount) return;
  place = { ...place, page, chosen: 0 };
  look();
  tell({ page });
}

eventBus.on("pagesinit", () => {
  viewer.currentScaleValue = "page-width";
  look();
});
// Pages have their own sizes once all are known.
eventBus.on("pagesloaded", () => steered && look());
eventBus.on("pagerendered", ({ pageNumber, error }) => (error ? tell({ failed: true }) : mark(pageNumber)));
eventBus.on("pagechanging", ({ pageNumber }) => {
  if (steered) return;
  place = { ...place, page: pageNumber };
  showThumb();
  tell({ page: pageNumber });
});
for (const moved of ["wheel", "pointerdown", "touchmove", "keydown"])
  addEventListener(moved, () => { steered = false; }, { capture: true, passive: true });
new ResizeObserver(() => {
  if (viewer.pagesCount && viewer.currentScaleValue === "page-width") viewer.currentScaleValue = "page-width";
  if (steered) look();
}).observe(container);

const form = document.querySelector("#find"), words = form.elements.words;
function find(type, back = false) {
  steered = false;
  eventBus.dispatch("find", { source: form, type, query: words.value, highlightAll: true, findPrevious: back });
}
function showFind(shown) {
  form.hidden = !shown;
  if (shown) words.select();
  else container.focus();
  if (!shown) eventBus.dispatch("findbarclose", { source: form });
}
for (const name of ["updatefindmatchescount", "updatefindcontrolstate"])
  eventBus.on(name, ({ matchesCount: { current, total } }) => {
    form.querySelector("[role=status]").textContent = !words.value ? "" : total ? `${current} of ${total}` : "Not found";
  });
words.addEventListener("input", () => find(""));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("click", ({ target }) => {
  if (target.dataset.step) find("again", target.dataset.step < 0);
  if ("close" in target.dataset) showFind(false);
});

addEventListener("keydown", (event) => {
  const typing = event.target === words, command = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (command && key === "f") showFind(true);
  else if (typing && event.key === "Enter") find("again", event.shiftKey);
  else if (event.key === "Escape" && !form.hidden) showFind(false);
  else if (command ? key === "k" : !typing && ["/", "?", "escape"].includes(key)) tell({ key: event.key });
  else if (!typing && !command && step && container.scrollWidth <= container.clientWidth) turn(step);
  else return;
  event.preventDefault();
});

addEventListener("message", ({ source, data }) => {
  if (source !== parent) return;
  if (data.theme) document.documentElement.dataset.theme = data.theme;
  if (data.place) place = data.place;
  if (data.open) open(data.open).catch(() => tell({ failed: true }));
  else if (data.place) look();
  if (data.find) showFind(true);
  if (data.thumbs) {
    thumbs.hidden = !thumbs.hidden;
    showThumb();
  }
  if ("zoom" in data && viewer.pagesCount) {
    const scale = Math.min(5, Math.max(0.25, viewer.currentScale * data.zoom));
    viewer.currentScaleValue = data.zoom ? String(scale) : "page-width";
  }
});
tell({ ready: true });
