"use strict";
// Shows the address under which this browser reaches the proxy.
for (const node of document.querySelectorAll(".address")) node.textContent = location.origin;
