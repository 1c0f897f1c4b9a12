include(CTest)

# Copies the listed files, keeping their folders, to where the module is run from and installed from.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  set(destination ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  set(copies)
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: no file ${file}")
    endif()
    add_custom_command(
      OUTPUT ${destination}/${file}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${destination}/${file}
      )
    list(APPEND copies ${destination}/${file})
  endforeach()
  add_custom_target(Copy${MODULE_NAME} ALL DEPENDS ${copies})
  install(DIRECTORY ${destination}/ DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR} COMPONENT Runtime)
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  get_filename_component(name ${TEST_SCRIPT} NAME_WE)
  add_test(NAME py_${TEST_TESTNAME_PREFIX}${name} COMMAND ${Slicer_LAUNCHER_EXECUTABLE} ${TEST_SCRIPT})
endfunction()
