// @ts-check
/** The page begins here: the language, the appearance, the keys, and the service's events. */

import { onTokenWanted } from "./api.js";
import { acceptDrops } from "./clips.js";
import { askToken, showHelp } from "./dialogs.js";
import { listenToService } from "./events.js";
import { addKeys } from "./keys.js";
import { change, listen, readAddress, restore, state } from "./store.js";
import { browserLanguage, t } from "./strings.js";
import { showUnfinished } from "./tus.js";
import "./messages.js";
import "./more-options.js";
import "./output.js";
import "./queue.js";
import "./run.js";
import "./sliders.js";
import "./stage.js";
import "./strip.js";
import "./subject.js";
import "./toolbar.js";
import "./transport.js";

/** Texts of the frame around the elements, which stand in index.html in English. */
function _translate() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.getAttribute("data-text") ?? "");
  for (const element of document.querySelectorAll("[data-label]")) {
    const text = t(element.getAttribute("data-label") ?? "");
    element.setAttribute("aria-label", text);
    if (element.tagName === "BUTTON" || element.tagName === "SELECT") element.setAttribute("title", text);
  }
}

function _show() {
  document.documentElement.dataset.theme = state.theme;
  document.body.classList.toggle("offline", !state.online);
  const line = document.querySelector(".connection");
  if (line) line.textContent = state.online ? "" : t("offline");
  const clip = state.clip ? state.clips.get(state.clip) : null;
  document.title = clip ? `${clip.name} · vidmatte` : "vidmatte";
  document.body.classList.toggle("empty", state.loaded && !clip);
}

function _addSwitches() {
  const language = document.querySelector("#language");
  const theme = document.querySelector("#theme");
  if (language instanceof HTMLSelectElement) {
    language.value = state.language;
    language.addEventListener("change", () => change({ language: language.value }));
  }
  if (theme instanceof HTMLSelectElement) {
    theme.value = state.theme;
    theme.addEventListener("change", () => change({ theme: theme.value }));
  }
  document.querySelector("#help")?.addEventListener("click", showHelp);
}

restore();
if (!state.language) change({ language: browserLanguage() });
_translate();
listen((changed) => {
  if (changed.has("language")) _translate();
  _show();
});
_show();
_addSwitches();
onTokenWanted(askToken);
acceptDrops();
addKeys();
addEventListener("hashchange", readAddress);
void showUnfinished();
listenToService();
