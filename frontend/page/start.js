// Starts a page's script where the browser has what it needs, and says plainly where it has not. This is written so that
// old browsers understand it. docs/deploying.md names the browsers.
(function () {
  "use strict";
  var page = document.querySelector("script[data-page]").getAttribute("data-page");
  var supported = "noModule" in document.createElement("script") && typeof BroadcastChannel === "function" &&
    typeof AbortSignal === "function" && typeof AbortSignal.timeout === "function" && typeof AbortSignal.any === "function" &&
    typeof Array.prototype.findLast === "function";
  if (!supported) {
    document.getElementById("unsupported").hidden = false;
    return;
  }
  var script = document.createElement("script");
  script.type = "module";
  script.src = page;
  document.head.appendChild(script);
})();
