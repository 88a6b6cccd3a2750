// The focus stays while a region is drawn anew around it, unless it went elsewhere before.
(() => {
  let focused = null, was = {}, region = null, menu = "", at = 0;
  const parts = () => [...region.querySelectorAll("a, button, input, select, summary, textarea, [tabindex]")];
  const seen = (each) => each?.isConnected && each.checkVisibility() && !each.disabled;
  const name = ({ id, tagName, ariaLabel, dataset: { event, act, document, conversation, page, mark, tag, recipe } }) =>
    [id, tagName, ariaLabel, event, act, document, conversation, page, mark, tag, recipe].join();

  // To the same thing, or what is near: the other way of two, a setting's field, its menu, what stands in its place.
  function back() {
    const now = document.activeElement, isAnother = now === focused && name(now) !== was.name;
    if (!focused || !(isAnother || (now === document.body && !seen(focused)))) return;
    const all = parts(), { step, document: id, setting } = was;
    const same = [all[at], ...all].find((each) => each && name(each) === was.name);
    // What is being typed there is not sent yet.
    if (same?.matches("#settings [inputmode]") && focused.value !== focused.defaultValue) same.value = focused.value;
    const others = all.filter((each) => step && each.dataset.step && each.dataset.document === id);
    const near = [document.getElementById(`set-${setting}`), menu && region.querySelector(`[data-menu=${menu}] > summary`)];
    [same, ...others, ...near, ...all.slice(at), ...all, region.closest(".pane")].find(seen)?.focus({ preventScroll: true });
  }
  document.addEventListener("focusin", ({ target }) => {
    if (target.closest("dialog")) return;
    region = target.closest("[data-region]");
    focused = region && target;
    was = { ...target.dataset, name: name(target) };
    menu = target.closest("[data-menu]")?.dataset.menu;
    at = region ? Math.max(0, parts().indexOf(target)) : 0;
  });
  document.addEventListener("focusout", ({ target }) => setTimeout(() => {
    const now = document.activeElement;
    if (target === focused && seen(target) && target !== now && !now.closest("dialog")) focused = null;
  }));
  const watch = () => new MutationObserver(back).observe(document.querySelector("#desk"), { childList: true, subtree: true, attributes: true });
  window.docpodFocus = { back, watch };
})();
