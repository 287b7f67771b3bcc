import{u as r}from"./shared-7YD24X32.js";var p=(o,t)=>`${r(o)} ${t}${Number(o)===1?"":"s"}`;export{p as a};
